"""Which SQL may run in the store: decided on the engine's own syntax tree, by the lists in `allowed`.

The engine reads and writes files, talks to the network and calls Python by default. The first wall is the
engine's access control (`engine.ACCESS`: no source is granted). It has holes: the scalar function `file`,
INTO OUTFILE, FROM INFILE, `python()`, disks in table settings, and settings that hold paths, addresses or
SQL. This guard is the second wall and refuses them. It never parses SQL itself: the engine's parser does
(`parseQueryToJSON`, `formatQuery`), so what is checked is what runs, whatever the quoting or comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from egresslens.store import allowed, errors
from egresslens.store.errors import StoreError
from egresslens.store.passwords import Account

Node = Mapping[str, Any]


class Parser(Protocol):
    """The engine as a parser."""

    def tree(self, sql: str) -> Node | None:
        """The statement's syntax tree, or None for a kind of statement the engine has no JSON for.

        Raises:
            StoreError: the engine's own syntax error; more than one statement is one.
        """

    def canonical(self, sql: str) -> str:
        """The statement as the engine writes it: no comments, no heredocs, strings in single quotes."""


@dataclass(frozen=True)
class Catalog:
    """What the engine offers, as it says itself. Names of functions in lower case.

    `functions` are the allowed ones, `refused` all others. Settings map to their type, formats in lower case
    to their names.
    """

    functions: frozenset[str]
    refused: frozenset[str]
    aggregates: frozenset[str]
    combinators: tuple[str, ...]
    table_functions: frozenset[str]
    settings: Mapping[str, str]
    table_settings: Mapping[str, str]
    input_formats: Mapping[str, str]
    output_formats: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """A statement that may run.

    `has_result`: it answers with rows. `streams`: a SELECT, whose rows can be sent as they come.
    `output_format`: the one it names. `identifiers`: parameters that stand for names. `settings`: those a SET
    changes.
    """

    reads: bool
    has_result: bool = True
    streams: bool = False
    output_format: str | None = None
    identifiers: tuple[str, ...] = ()
    settings: Mapping[str, str] | None = None


class Guard:
    """Checks statements. Safe to call from several threads."""

    def __init__(self, parser: Parser, catalog: Catalog) -> None:
        self._parser = parser
        self._catalog = catalog
        self._refused_calls = (catalog.table_functions - allowed.TABLE_FUNCTIONS - catalog.functions) | {
            "file"
        }
        # A verdict follows from the text and the account alone; dashboards repeat their texts.
        self._remembered = lru_cache(maxsize=512)(self._decide)

    def check(self, sql: str, account: Account) -> Verdict:
        """Decide about one statement.

        Raises:
            StoreError: the engine's syntax error, or the refusal with ClickHouse's code for it.
        """
        return self._remembered(sql, account) if len(sql) < _REMEMBERED_TEXT else self._decide(sql, account)

    def check_settings(self, names: Iterator[str] | Mapping[str, str]) -> None:
        """Refuse settings of a request that are unknown, loosening, or free text.

        Raises:
            StoreError: with the code of an unknown setting or of a constraint.
        """
        for name in names:
            _check_setting(name, self._catalog.settings, allowed.TEXT_SETTINGS)

    def input_format(self, name: str) -> str:
        """A format's own name, however it is spelt.

        Raises:
            StoreError: the engine has no such format. (It has others inside, for Python's data frames.)
        """
        return _format(name, self._catalog.input_formats)

    def output_format(self, name: str) -> str:
        """The same for a format of results."""
        return _format(name, self._catalog.output_formats)

    def check_target(self, table: Sequence[str]) -> None:
        """Refuse an insert into the engine's own databases. `table` has its parts, unquoted."""
        _check_table(table, "writer")
        if len(table) > 1:
            _check_database(table[0])

    def check_identifiers(self, names: tuple[str, ...], values: Mapping[str, str], account: Account) -> None:
        """Refuse a parameter of type Identifier that names what the account may not use."""
        for name in names:
            # A value may have quotes and several parts of its own.
            parts = re.split(r"[.`\"]+", values.get(name, "").strip('`" '))
            self._check_name("arguments", parts, account)
            if len(parts) == 1:
                _check_database(parts[0])

    def _decide(self, sql: str, account: Account) -> Verdict:
        tree = self._parser.tree(sql)
        canonical = self._parser.canonical(sql)
        named = _FORMAT.search(canonical)
        output_format = named.group(1) if named else None
        self._check_text(canonical)
        identifiers = tuple(_IDENTIFIER_PARAMETER.findall(_STRING.sub("''", canonical)))
        if tree is None:
            self._check_without_tree(canonical, account)
            return Verdict(reads=True, output_format=output_format, identifiers=identifiers)
        kind = str(tree.get("type"))
        if kind == "SetQuery":
            return self._decide_set(tree)
        reads = kind in allowed.READS
        if kind == "ExplainQuery":
            tree = _without_options(tree)
        if not reads:
            _check_write(kind, tree, account)
        self._walk(tree, account)
        return Verdict(
            reads=reads,
            has_result=reads,
            streams=kind == "SelectWithUnionQuery",
            output_format=output_format,
            identifiers=identifiers,
        )

    def _check_without_tree(self, canonical: str, account: Account) -> None:
        if canonical.startswith("DESCRIBE TABLE"):
            # DESCRIBE takes a table, a table function or a subquery: what FROM takes.
            self._decide("SELECT * FROM" + canonical.removeprefix("DESCRIBE TABLE"), account)
            return
        if canonical.startswith("INSERT"):
            raise _data_elsewhere()
        if not allowed.NAMED_READS.match(canonical) and not (
            account == "writer" and canonical.startswith("SHOW PROCESSLIST")
        ):
            raise _denied(f"{' '.join(canonical.split()[:2])} is not for this store")
        if "/" in canonical:
            raise _denied("a table's name cannot be a path")
        for found in _SYSTEM_TABLE.finditer(_STRING.sub("''", canonical)):
            _check_table(("system", found.group(1)), account)

    def _decide_set(self, tree: Node) -> Verdict:
        if tree.get("query_parameters") or tree.get("default_settings"):
            raise _denied("SET takes settings with a value; send parameters as param_NAME of the request")
        changes = {str(change["name"]): _literal(change.get("value")) for change in tree.get("changes", ())}
        self.check_settings(changes)
        return Verdict(reads=True, has_result=False, settings=changes)

    def _walk(self, tree: Node, account: Account) -> None:
        for key, node, of_table in _nodes(tree, "", of_table=False):
            kind = node.get("type")
            if kind == "Function":
                self._check_function(key, node)
            elif kind == "ColumnsApplyTransformer" and "func_name" in node:
                self._check_function(key, {"name": node["func_name"]})
            elif kind in ("TableIdentifier", "Identifier"):
                self._check_name(key, node.get("name_parts") or [str(node.get("name", ""))], account)
            elif kind == "SetQuery":
                self._check_set_query(node, of_table=of_table)

    def _check_name(self, key: str, parts: Sequence[str], account: Account) -> None:
        _check_table(parts, account)
        # arrayMap(file, paths): the engine takes a bare name among arguments for a function's.
        if key in ("arguments", "with") and len(parts) == 1 and parts[0].lower() in self._catalog.refused:
            raise StoreError(
                errors.FUNCTION_NOT_ALLOWED,
                f"Function {parts[0]} is not allowed in this store (write such a column as table.column)",
            )

    def _check_set_query(self, node: Node, *, of_table: bool) -> None:
        for change in node.get("changes", ()):
            if of_table:
                _check_setting(str(change["name"]), self._catalog.table_settings, allowed.TABLE_TEXT_SETTINGS)
            else:
                self.check_settings({str(change["name"]): ""})

    def _check_function(self, key: str, node: Node) -> None:
        name = str(node.get("name", ""))
        if key in ("table_function", "as_table_function"):
            _check_table_function(name, node)
        elif key not in _OTHER_NAMES and not self._is_function(name.lower()):
            raise StoreError(errors.FUNCTION_NOT_ALLOWED, f"Function {name} is not allowed in this store")

    def _is_function(self, name: str) -> bool:
        return name in self._catalog.functions or name in allowed.SYNTAX_FUNCTIONS or self._is_aggregate(name)

    def _is_aggregate(self, name: str) -> bool:
        """Whether it is an aggregate function, with any combinators (sumIf, uniqStateIf, …)."""
        return name in self._catalog.aggregates or any(
            name.endswith(suffix) and self._is_aggregate(name.removesuffix(suffix))
            for suffix in self._catalog.combinators
        )

    def _check_text(self, canonical: str) -> None:
        """Look for the worst in the text as well: what the tree leaves out must not become a hole."""
        text = _STRING.sub("''", canonical)
        if _OUTFILE.search(text):
            raise StoreError(errors.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        for found in _CALL.finditer(text):
            name = (found.group(1) or found.group(2)).lower()
            if name == "input":
                _check_table_function(name, {})
            if name in self._refused_calls:
                raise _denied(f"{name}() is not for this store")


_REMEMBERED_TEXT: Final = 16 * 1024
_STRING: Final = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_CALL: Final = re.compile(r"(?:`((?:[^`\\]|\\.)+)`|\b([A-Za-z_]\w*)) ?\(")
_OUTFILE: Final = re.compile(r"\bINTO OUTFILE\b")
_IDENTIFIER_PARAMETER: Final = re.compile(r"\{(\w+): ?Identifier\}")
_FORMAT: Final = re.compile(r"^FORMAT (\w+)$", re.MULTILINE)
_EXPRESSION_WORDS: Final = re.compile(r"\b(default|alias|materialized|ephemeral|ttl)\b", re.IGNORECASE)
_SYSTEM_TABLE: Final = re.compile(r"\bsystem`?\.`?(\w+)", re.IGNORECASE)
# Keys under which a Function node names an engine or a kind of index.
_OTHER_NAMES: Final = frozenset({"engine", "index_type"})
_DATABASE_KEYS: Final = frozenset({"database", "to_database", "from_database", "table_database"})


def read_catalog(rows: Callable[[str], list[list[Any]]]) -> Catalog:
    """Ask the engine what it has. `rows` runs a SELECT and returns its rows."""
    listed = rows("SELECT name, alias_to, categories, is_aggregate FROM system.functions")
    pure = {
        str(name)
        for name, _, category, _ in listed
        if category in allowed.FUNCTION_CATEGORIES or name in allowed.OTHER_FUNCTIONS
    } - allowed.NOT_FUNCTIONS
    functions = [row for row in listed if str(row[1] or row[0]) in pure]
    names = frozenset(str(row[0]).lower() for row in functions)
    return Catalog(
        functions=names,
        refused=frozenset(str(row[0]).lower() for row in listed) - names,
        aggregates=frozenset(str(row[0]).lower() for row in functions if row[3]),
        combinators=tuple(
            str(row[0]).lower() for row in rows("SELECT name FROM system.aggregate_function_combinators")
        ),
        table_functions=frozenset(
            str(row[0]).lower() for row in rows("SELECT name FROM system.table_functions")
        ),
        settings={str(name): str(kind) for name, kind in rows("SELECT name, type FROM system.settings")},
        table_settings={
            str(name): str(kind) for name, kind in rows("SELECT name, type FROM system.merge_tree_settings")
        },
        input_formats=_formats(rows("SELECT name FROM system.formats WHERE is_input")),
        output_formats=_formats(rows("SELECT name FROM system.formats WHERE is_output")),
    )


def _formats(rows: list[list[Any]]) -> dict[str, str]:
    return {str(name).lower(): str(name) for (name,) in rows}


def _format(name: str, known: Mapping[str, str]) -> str:
    if name.lower() not in known:
        raise StoreError(errors.UNKNOWN_FORMAT, f"Unknown format {name[:50]!r}")
    return known[name.lower()]


def _nodes(node: Any, key: str, *, of_table: bool) -> Iterator[tuple[str, Node, bool]]:
    """Every object of the tree, the key it stands under, and whether it is in a table's definition.

    What is in a list stands under the list's key. SETTINGS in a table's definition are the table's. What a
    codec or a statistic is made of is left out: it has no expressions.
    """
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child, key, of_table=of_table)
    elif isinstance(node, dict):
        if node.get("kind") in ("CODEC", "STATISTICS"):
            return
        if "type" in node:
            yield key, node, of_table
        inside = of_table or node.get("type") in ("Storage", "AlterCommand")
        for name, child in node.items():
            if isinstance(child, (dict, list)):
                yield from _nodes(child, key if name == "children" else name, of_table=inside)


def _without_options(tree: Node) -> Node:
    """An EXPLAIN that may run, without its own options, which look like settings."""
    if tree.get("kind") not in allowed.EXPLAINS:
        raise _denied(f"{tree.get('kind')} is not for this store")
    if tree.get("query", {}).get("type") not in allowed.READS:
        raise _denied("EXPLAIN takes a SELECT here")
    for option in tree.get("settings", {}).get("changes", ()):
        if option.get("name") not in allowed.EXPLAIN_OPTIONS:
            raise StoreError(errors.UNKNOWN_SETTING, f"Unknown option '{option.get('name')}' of EXPLAIN")
    return {key: value for key, value in tree.items() if key != "settings"}


def _check_write(kind: str, tree: Node, account: Account) -> None:
    if kind not in allowed.WRITES:
        raise _denied(f"{_words(kind)} is not for this store")
    if account == "reader":
        raise StoreError(errors.READONLY, "reader: Cannot execute query in readonly mode")
    special = {"CreateQuery": _check_create, "AlterQuery": _check_alter, "InsertQuery": _check_insert}
    if kind in special:
        special[kind](tree)
    if kind == "DropQuery" and tree.get("kind") == "Detach":
        raise _denied("DETACH is not for this store")
    for key, value in _strings(tree):
        if key in _DATABASE_KEYS:
            _check_database(value)


def _check_create(tree: Node) -> None:
    if tree.get("attach") or tree.get("has_attach_from_path"):
        raise _denied("ATTACH is not for this store")
    if tree.get("is_dictionary"):
        raise _denied("dictionaries are not for this store: join a table")
    if tree.get("is_time_series_table"):
        raise _denied("time series tables are not for this store")
    for _, node, _ in _nodes(tree, "", of_table=False):
        engine = node.get("engine")
        if isinstance(engine, dict):
            _check_engine(
                str(engine.get("name")),
                allowed.TABLE_ENGINES if tree.get("table") else allowed.DATABASE_ENGINES,
            )


def _check_engine(name: str, engines: frozenset[str]) -> None:
    if name not in engines:
        raise _denied(
            "Not enough privileges. To execute this query, it's necessary to have the grant "
            f"TABLE ENGINE ON {name}"
        )


def _check_alter(tree: Node) -> None:
    for command in tree.get("command_list", {}).get("children", ()):
        if command.get("command_type") not in allowed.ALTER_COMMANDS:
            raise _denied(f"ALTER {_words(str(command.get('command_type')))} is not for this store")


def _check_insert(tree: Node) -> None:
    if tree.get("infile"):
        raise _denied("FROM INFILE is not allowed")
    if tree.get("table_function"):
        raise _denied("INSERT INTO FUNCTION is not allowed")
    if not tree.get("select"):
        raise _data_elsewhere()


def _data_elsewhere() -> StoreError:
    return StoreError(
        errors.NOT_IMPLEMENTED,
        "an insert with data is INSERT INTO table [(columns)] [SETTINGS …] FORMAT name, then the data",
    )


def _check_setting(name: str, known: Mapping[str, str], free_text: frozenset[str]) -> None:
    if name not in known:
        raise StoreError(errors.UNKNOWN_SETTING, f"Unknown setting '{name}'")
    is_text = known[name].split("(")[0] in allowed.TEXT_TYPES
    if allowed.LOOSENING_SETTINGS.fullmatch(name) or (is_text and name not in free_text):
        raise StoreError(errors.SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed")


def _check_table(parts: Sequence[str], account: Account) -> None:
    # In the database `default`, and there alone, the engine takes a table's name for a file's.
    if any("/" in part for part in parts):
        raise _denied("a table's name cannot be a path")
    if len(parts) < 2 or parts[0].lower() != "system":
        return
    tables = allowed.READER_SYSTEM_TABLES if account == "reader" else allowed.WRITER_SYSTEM_TABLES
    if parts[1].lower() not in tables:
        raise _denied(
            f"{account}: Not enough privileges. To execute this query, it's necessary to have the grant "
            f"SELECT ON system.{parts[1]}"
        )


def _check_database(name: str) -> None:
    if name.lower() in allowed.SYSTEM_DATABASES:
        raise StoreError(
            errors.DATABASE_ACCESS_DENIED, f"database {name} is the engine's own: create one for your tables"
        )


def _check_table_function(name: str, node: Node) -> None:
    if name.lower() == "input":
        raise StoreError(
            errors.INVALID_USAGE_OF_INPUT,
            "input() would insert nothing here; insert into a table with a materialized view instead",
        )
    if name.lower() not in allowed.TABLE_FUNCTIONS:
        raise _denied(f"table function {name} is not for this store")
    if name.lower() == "values":
        _check_columns_text(node.get("arguments", {}).get("children", ())[:1])


def _check_columns_text(first: Sequence[Node]) -> None:
    """Refuse expressions in the list of columns that `values` takes as text, and a list that is computed."""
    for argument in first:
        if argument.get("type") == "Literal":
            if _EXPRESSION_WORDS.search(str(argument.get("value"))):
                raise _denied("values() takes names and types of columns, no expressions")
        elif argument.get("type") != "Function" or argument.get("name") != "tuple":
            raise _denied("values() takes its columns as a plain string")


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of the tree with the key it stands under; names in objects of their own count as texts."""
    if isinstance(node, dict):
        if node.get("type") == "Identifier" and isinstance(node.get("name"), str):
            yield key.removesuffix("_ast"), str(node["name"])
        for name, child in node.items():
            yield from _strings(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from _strings(child, key)
    elif isinstance(node, str):
        yield key, node


def _literal(value: Any) -> str:
    inner = value.get("value") if isinstance(value, dict) else value
    if isinstance(inner, (dict, list)):
        raise StoreError(errors.BAD_ARGUMENTS, "SET takes a number or a string here")
    return str(int(inner)) if isinstance(inner, bool) else str(inner)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Query")).replace("_", " ").upper()


def _denied(message: str) -> StoreError:
    return StoreError(errors.ACCESS_DENIED, message)
