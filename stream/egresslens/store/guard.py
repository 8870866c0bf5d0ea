"""Which SQL may run in the store: decided on the engine's own syntax tree, by allow-lists.

The engine reads and writes files, talks to the network and calls Python by default. The first wall is the engine's
access control (`engine.ACCESS`: no source is granted). It has holes: the scalar function `file`, INTO OUTFILE, FROM
INFILE, disks in table settings, settings that hold paths, addresses or SQL. This guard is the second wall and
refuses them. It never parses SQL itself: the engine's parser does (`parseQueryToJSON`, `formatQuery`), so what is
checked is what runs, whatever the quoting, comments or spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from egresslens.store import errors
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
    """What the engine offers, as it says itself. Names in lower case.

    `functions` are those whose category reads nothing but its arguments; `settings` maps a setting to its type.
    """

    functions: frozenset[str]
    aggregates: frozenset[str]
    combinators: tuple[str, ...]
    table_functions: frozenset[str]
    settings: Mapping[str, str]
    table_settings: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """A statement that may run. `output_format` is the one named in it; `identifiers` the parameters that name things.

    `streams` says that it is a SELECT, whose rows can be sent as they come; `settings` are those a SET changes.
    """

    streams: bool
    has_result: bool
    output_format: str | None
    identifiers: tuple[str, ...]
    settings: Mapping[str, str] | None = None


# Table functions that read nothing but their arguments and our tables.
TABLE_FUNCTIONS: Final = frozenset(
    "numbers numbers_mt zeros zeros_mt null values view format generaterandom generateseries generate_series "
    "primes mergetreeindex mergetreeprojection".split()
)

# Engines of tables. None reaches outside the store's folder. Replicated ones need a Keeper, over the network.
TABLE_ENGINES: Final = frozenset(
    "MergeTree ReplacingMergeTree SummingMergeTree AggregatingMergeTree CollapsingMergeTree CoalescingMergeTree "
    "VersionedCollapsingMergeTree Memory Null Log TinyLog StripeLog".split()
)
DATABASE_ENGINES: Final = frozenset({"Atomic", "Memory"})

# Categories of `system.functions` whose members compute from their arguments alone. Not among them: AI (network),
# Introspection, Dictionary, Embedded Dictionary, Machine Learning (models in files), and Other, see below.
FUNCTION_CATEGORIES: Final = (
    "Aggregate Functions,Arithmetic,Arrays,Bit,Bitmap,Comparison,Conditional,Dates and Times,Distance,Encoding,"
    "Encryption,Financial,Geo,Geo Polygon,Hash,IP Address,JSON,Logical,Map,Mathematical,Null,NumericIndexedVector,"
    "QBit,Random Number,Rounding,String,String Replacement,String Search,String Splitting,Time Series,Time Window,"
    "Tuple,Type Conversion,URL,UUID"
).split(",")

# Category Other holds `file`, `getMacro`, `getServerSetting`, `joinGet`, `sleep` as well: one by one.
OTHER_FUNCTIONS: Final = frozenset(
    "bar blockNumber blockSerializedSize blockSize byteSize countDigits currentDatabase currentQueryID "
    "currentSchemas currentUser defaultValueOfArgumentType defaultValueOfTypeName digits displayName "
    "dumpColumnStructure errorCodeToName finalizeAggregation formatQuery formatQueryOrNull formatQuerySingleLine "
    "formatQuerySingleLineOrNull formatReadableDecimalSize formatReadableQuantity formatReadableSize "
    "formatReadableTimeDelta generateRandomStructure getMaxTableNameLengthForDatabase getSetting "
    "getSettingOrDefault getSizeOfEnumType getSubcolumn getTypeSerializationStreams hostName identity ignore "
    "indexHint initialQueryID initializeAggregation isConstant isDecimalOverflow lowCardinalityIndices "
    "lowCardinalityKeys MACNumToString MACStringToNum MACStringToOUI materialize minSampleSizeContinuous "
    "minSampleSizeConversion neighbor normalizedQueryHash normalizedQueryHashKeepNames normalizeQuery "
    "normalizeQueryKeepNames parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero parseTimeDelta "
    "partitionId queryID revision rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningDifference "
    "runningDifferenceStartingWithFirstValue throwIf toColumnTypeName toTypeName tokenizeQuery transform uptime "
    "variantElement variantType version visibleWidth".split()
)
# What the parser writes for syntax and `system.functions` does not list.
SYNTAX_FUNCTIONS: Final = frozenset({"lambda", "untuple", "grouping", "exists", "_cast", "nested"})

# Tables of `system` that say something of our tables, of the engine or of the caller's own settings.
READER_SYSTEM_TABLES: Final = frozenset(
    "one numbers numbers_mt zeros zeros_mt primes settings merge_tree_settings tables columns databases parts "
    "parts_columns projection_parts projection_parts_columns projections data_skipping_indices "
    "data_skipping_index_types functions formats table_engines table_functions data_type_families "
    "aggregate_function_combinators collations codecs keywords completions time_zones build_options contributors "
    "licenses merges mutations metrics events asynchronous_metrics detached_parts documentation unicode "
    "tokenizers constraints".split()
)
# Those that show other people's statements, or the machine.
WRITER_SYSTEM_TABLES: Final = READER_SYSTEM_TABLES | frozenset(
    "processes errors warnings server_settings query_log query_views_log part_log query_cache disks "
    "storage_policies user_processes dropped_tables detached_tables view_refreshes dimensional_metrics "
    "histogram_metrics settings_changes".split()
)
SYSTEM_DATABASES: Final = frozenset({"system", "information_schema", "default"})

# Settings of a request whose value is free text: paths, addresses and SQL hide in such. These do not.
TEXT_SETTINGS: Final = frozenset(
    "log_comment insert_deduplication_token count_distinct_implementation force_data_skipping_indices "
    "ignore_data_skipping_indices force_optimize_projection_name preferred_optimize_projection_name "
    "query_cache_tag compatibility bool_true_representation bool_false_representation "
    "format_csv_null_representation format_tsv_null_representation format_custom_field_delimiter "
    "format_custom_row_before_delimiter format_custom_row_after_delimiter format_custom_row_between_delimiter "
    "format_custom_result_before_delimiter format_custom_result_after_delimiter format_regexp "
    "output_format_sql_insert_table_name output_format_pretty_grid_charset "
    "format_json_object_each_row_column_for_object_name column_names_for_schema_inference schema_inference_hints "
    "output_format_avro_codec".split()
)
TABLE_TEXT_SETTINGS: Final = frozenset(
    "default_compression_codec marks_compression_codec primary_key_compression_codec auto_statistics_types "
    "exclude_materialize_skip_indexes_on_merge".split()
)
TEXT_TYPES: Final = frozenset({"String", "Map", "URI", "Array"})
# Settings that would change what this guard sees, or loosen what the account may do.
LOOSENING: Final = re.compile(
    r"^(readonly|allow_ddl|dialect|polyglot_dialect|implicit_select|default_table_engine|default_database_engine|"
    r"default_temporary_table_engine|.*introspection.*|.*_dialect|.*eval_table_function.*|allow_.*ai_.*|"
    r"disk|table_disk|storage_policy|s3.*|azure.*|hdfs.*|url_.*|engine_file_.*|engine_url_.*)$"
)

ALTER_COMMANDS: Final = frozenset(
    "ADD_COLUMN DROP_COLUMN MODIFY_COLUMN COMMENT_COLUMN RENAME_COLUMN MATERIALIZE_COLUMN MODIFY_ORDER_BY "
    "MODIFY_SAMPLE_BY REMOVE_SAMPLE_BY MODIFY_TTL REMOVE_TTL MATERIALIZE_TTL MODIFY_SETTING RESET_SETTING "
    "MODIFY_QUERY MODIFY_REFRESH ADD_INDEX DROP_INDEX MATERIALIZE_INDEX ADD_PROJECTION DROP_PROJECTION "
    "MATERIALIZE_PROJECTION ADD_CONSTRAINT DROP_CONSTRAINT ADD_STATISTICS DROP_STATISTICS MODIFY_STATISTICS "
    "MATERIALIZE_STATISTICS DROP_PARTITION DROP_DETACHED_PARTITION ATTACH_PARTITION MOVE_PARTITION "
    "REPLACE_PARTITION DELETE UPDATE APPLY_DELETED_MASK MODIFY_COMMENT".split()
)
READS: Final = frozenset(
    {"SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "ExplainQuery", "ShowTablesQuery"}
    | {"ShowColumnsQuery", "ShowIndexesQuery", "CheckTableQuery"}
)
WRITES: Final = frozenset(
    {"CreateQuery", "AlterQuery", "DropQuery", "RenameQuery", "OptimizeQuery", "DeleteQuery", "UpdateQuery"}
    | {"InsertQuery"}
)
EXPLAINS: Final = frozenset(
    {"EXPLAIN", "EXPLAIN AST", "EXPLAIN SYNTAX", "EXPLAIN QUERY TREE", "EXPLAIN PIPELINE", "EXPLAIN ESTIMATE"}
)
# Statements the engine has no JSON for, by their canonical first words. They hold names, no expressions.
NAMED_READS: Final = re.compile(
    r"(SHOW CREATE (TABLE|VIEW|DATABASE)|EXISTS( TABLE| VIEW| DATABASE)?|SHOW FUNCTIONS|SHOW ENGINES)\b"
)
_STRING: Final = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_CALL: Final = re.compile(r"(?:`((?:[^`\\]|\\.)+)`|\b([A-Za-z_]\w*))\s*\(")
_FORMAT: Final = re.compile(r"^FORMAT (\w+)$", re.MULTILINE)
_QUALIFIED: Final = re.compile(r"\b(system|information_schema|default)`?\.`?(\w+)", re.IGNORECASE)

# Keys under which a Function node names something that is not a function of rows.
_NAMES_ELSEWHERE: Final = frozenset({"index_type", "codec", "statistics_type", "types"})
_DATABASE_KEYS: Final = frozenset(
    {"database", "as_database", "to_database", "from_database", "table_database"}
)


class Guard:
    """Checks statements against the allow-lists above."""

    def __init__(self, parser: Parser, catalog: Catalog) -> None:
        self._parser = parser
        self._catalog = catalog
        self._refused_calls = (catalog.table_functions - TABLE_FUNCTIONS - catalog.functions) | {"file"}

    def check(self, sql: str, account: Account) -> Verdict:
        """Decide about one statement.

        Raises:
            StoreError: the engine's syntax error, or the refusal with ClickHouse's code for it.
        """
        tree = self._parser.tree(sql)
        canonical = self._parser.canonical(sql)
        named = _FORMAT.search(canonical)
        output_format = named.group(1) if named else None
        if tree is None:
            return self._check_without_tree(canonical, output_format, account)
        kind = str(tree.get("type"))
        if kind == "SetQuery":
            return self._check_set(tree)
        self._check_kind(kind, tree, account)
        identifiers = self._walk_all(tree, account)
        self._check_calls(canonical)
        return Verdict(
            streams=kind == "SelectWithUnionQuery",
            has_result=kind in READS,
            output_format=output_format,
            identifiers=identifiers,
        )

    def check_setting(self, name: str) -> None:
        """Refuse a setting of a request or a statement that is unknown, loosening, or free text.

        Raises:
            StoreError: with the code of an unknown setting or of a constraint.
        """
        _check_setting(name, self._catalog.settings, TEXT_SETTINGS)

    def check_identifiers(self, names: tuple[str, ...], values: Mapping[str, str], account: Account) -> None:
        """Refuse a parameter of type Identifier that names what the account may not read."""
        for name in names:
            value = values.get(name, "")
            if value.strip("`\"' ").lower() in SYSTEM_DATABASES or "/" in value:
                raise _denied(f"parameter {name} may not name {value!r}")
            _check_table(value.split("."), account)

    def _check_without_tree(self, canonical: str, output_format: str | None, account: Account) -> Verdict:
        if canonical.startswith("DESCRIBE TABLE"):
            # DESCRIBE takes a table, a table function or a subquery: what FROM takes.
            inner = self.check(f"SELECT * FROM {canonical.removeprefix('DESCRIBE TABLE')}", account)
            return Verdict(False, True, output_format, inner.identifiers)
        if account == "writer" and canonical.startswith("SHOW PROCESSLIST"):
            return Verdict(False, True, output_format, ())
        if not NAMED_READS.match(canonical):
            raise _denied(f"{' '.join(canonical.split()[:2])} is not for this store")
        for found in _QUALIFIED.finditer(_STRING.sub("''", canonical)):
            _check_table([found.group(1), found.group(2)], account)
        if "/" in canonical:
            raise _denied("a table's name cannot be a path")
        self._check_calls(canonical)
        return Verdict(False, True, output_format, ())

    def _check_set(self, tree: Node) -> Verdict:
        if tree.get("query_parameters") or tree.get("default_settings"):
            raise _denied("SET takes settings with a value; send parameters as param_NAME of the request")
        changes = {str(change["name"]): _literal(change.get("value")) for change in tree.get("changes", ())}
        for name in changes:
            self.check_setting(name)
        return Verdict(False, False, None, (), settings=changes)

    def _check_kind(self, kind: str, tree: Node, account: Account) -> None:
        if kind in READS:
            explained = tree.get("kind")
            if kind == "ExplainQuery" and explained not in EXPLAINS:
                raise _denied(f"{explained} is not for this store")
            inner = tree.get("query")
            if kind == "ExplainQuery" and (not inner or inner.get("type") not in READS):
                raise _denied("EXPLAIN takes a SELECT here")
            return
        if kind not in WRITES:
            raise _denied(f"{_words(kind)} is not for this store")
        if account == "reader":
            raise StoreError(errors.READONLY, "reader: Cannot execute query in readonly mode")
        if kind == "CreateQuery":
            self._check_create(tree)
        if kind == "AlterQuery":
            for command in tree.get("command_list", {}).get("children", ()):
                if command.get("command_type") not in ALTER_COMMANDS:
                    raise _denied(f"ALTER … {command.get('command_type')} is not for this store")
        if kind == "DropQuery" and tree.get("kind") == "Detach":
            raise _denied("DETACH is not for this store")
        if kind == "InsertQuery":
            _check_insert(tree)
        _check_databases(tree)

    def _check_create(self, tree: Node) -> None:
        if tree.get("attach") or tree.get("has_attach_from_path"):
            raise _denied("ATTACH is not for this store")
        if tree.get("is_dictionary"):
            raise _denied("dictionaries are not for this store: join a table")
        engine = tree.get("storage", {}).get("engine")
        if not engine:
            return
        name = str(engine.get("name"))
        if name not in (TABLE_ENGINES if tree.get("table") else DATABASE_ENGINES):
            raise StoreError(
                errors.ACCESS_DENIED,
                f"Not enough privileges. To execute this query, it's necessary to have the grant "
                f"TABLE ENGINE ON {name}",
            )

    def _walk_all(self, tree: Node, account: Account) -> tuple[str, ...]:
        identifiers: list[str] = []
        for key, node, inside_table in _nodes(tree, "", inside_table=False):
            kind = node.get("type")
            if kind == "Function":
                self._check_function(key, node)
            elif kind in ("TableIdentifier", "Identifier"):
                _check_table(node.get("name_parts") or [str(node.get("name", ""))], account)
            elif kind == "SetQuery":
                for change in node.get("changes", ()):
                    self._check_changed(str(change["name"]), inside_table=inside_table)
            elif kind == "QueryParameter" and node.get("param_type") == "Identifier":
                identifiers.append(str(node["name"]))
            if node.get("out_file"):
                raise StoreError(errors.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        return tuple(identifiers)

    def _check_changed(self, name: str, *, inside_table: bool) -> None:
        if inside_table:
            _check_setting(name, self._catalog.table_settings, TABLE_TEXT_SETTINGS)
        else:
            self.check_setting(name)

    def _check_function(self, key: str, node: Node) -> None:
        name = str(node.get("name", ""))
        lower = name.lower()
        if key in ("table_function", "as_table_function"):
            if lower == "input":
                raise StoreError(
                    errors.INVALID_USAGE_OF_INPUT,
                    "input() inserts nothing here; insert into a table with a materialized view instead",
                )
            if lower not in TABLE_FUNCTIONS:
                raise _denied(f"table function {name} is not for this store")
            return
        if key == "engine" or key in _NAMES_ELSEWHERE or node.get("kind") in ("CODEC", "STATISTICS"):
            return
        if not self._known_function(lower):
            raise StoreError(errors.FUNCTION_NOT_ALLOWED, f"Function {name} is not allowed in this store")

    def _known_function(self, lower: str) -> bool:
        catalog = self._catalog
        if lower in catalog.functions or lower in SYNTAX_FUNCTIONS or lower in catalog.aggregates:
            return True
        for suffix in catalog.combinators:  # sumIf, uniqStateIf, …
            if lower.endswith(suffix) and len(lower) > len(suffix):
                return self._known_aggregate(lower[: -len(suffix)])
        return False

    def _known_aggregate(self, lower: str) -> bool:
        if lower in self._catalog.aggregates:
            return True
        return any(
            lower.endswith(suffix) and self._known_aggregate(lower[: -len(suffix)])
            for suffix in self._catalog.combinators
            if len(lower) > len(suffix)
        )

    def _check_calls(self, canonical: str) -> None:
        # The tree should have shown every call; a kind of node it leaves out must not become a hole.
        for found in _CALL.finditer(_STRING.sub("''", canonical)):
            name = (found.group(1) or found.group(2)).lower()
            if name in self._refused_calls:
                raise _denied(f"{name}() is not for this store")


def read_catalog(rows: Callable[[str], list[list[Any]]]) -> Catalog:
    """Ask the engine what it has. `rows` runs a SELECT and returns its rows."""
    categories = ",".join(f"'{name}'" for name in FUNCTION_CATEGORIES)
    others = {name.lower() for name in OTHER_FUNCTIONS}
    listed = rows("SELECT name, alias_to, categories, is_aggregate FROM system.functions")
    pure = {
        str(row[0]).lower()
        for row in rows(f"SELECT name FROM system.functions WHERE categories IN ({categories})")
    } | others
    functions = {
        str(name).lower() for name, alias_to, _, _ in listed if str(alias_to or name).lower() in pure
    }
    return Catalog(
        functions=frozenset(functions),
        aggregates=frozenset(
            str(row[0]).lower() for row in listed if row[3] and str(row[0]).lower() in functions
        ),
        combinators=tuple(
            str(row[0]).lower() for row in rows("SELECT name FROM system.aggregate_function_combinators")
        ),
        table_functions=frozenset(
            str(row[0]).lower() for row in rows("SELECT name FROM system.table_functions")
        ),
        settings=dict(rows("SELECT name, type FROM system.settings")),  # type: ignore[arg-type]
        table_settings=dict(rows("SELECT name, type FROM system.merge_tree_settings")),  # type: ignore[arg-type]
    )


def _nodes(node: Any, key: str, *, inside_table: bool) -> Iterator[tuple[str, Node, bool]]:
    """Every object of the tree with the key it stands under; the children of a list stand under the list's key."""
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child, key, inside_table=inside_table)
    elif isinstance(node, dict):
        if "type" in node:
            yield key, node, inside_table
        inside = inside_table or node.get("type") in ("Storage", "AlterCommand")
        for name, child in node.items():
            if isinstance(child, (dict, list)):
                yield from _nodes(child, key if name == "children" else name, inside_table=inside)


def _check_setting(name: str, known: Mapping[str, str], free_text: frozenset[str]) -> None:
    if name not in known:
        raise StoreError(errors.UNKNOWN_SETTING, f"Unknown setting '{name}'")
    kind = known[name].split("(")[0]
    if LOOSENING.match(name) or (kind in TEXT_TYPES and name not in free_text):
        raise StoreError(errors.SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed")


def _check_table(parts: list[str], account: Account) -> None:
    if any("/" in part for part in parts):
        raise _denied("a table's name cannot be a path")
    if len(parts) < 2 or parts[0].lower() != "system":
        return
    allowed = READER_SYSTEM_TABLES if account == "reader" else WRITER_SYSTEM_TABLES
    if parts[1].lower() not in allowed:
        raise _denied(
            f"{account}: Not enough privileges. It's necessary to have the grant SELECT ON system.{parts[1]}"
        )


def _check_insert(tree: Node) -> None:
    if tree.get("infile"):
        raise _denied("FROM INFILE is not allowed")
    if tree.get("table_function"):
        raise _denied("INSERT INTO FUNCTION is not allowed")
    if not tree.get("select"):
        raise StoreError(
            errors.NOT_IMPLEMENTED,
            "write an insert with data as INSERT INTO table [(columns)] FORMAT name, then data",
        )


def _check_databases(tree: Any) -> None:
    """Refuse to change the engine's own databases. `default` shows files as tables, so it is not for tables of ours."""
    for key, value in _strings(tree):
        if key in _DATABASE_KEYS and value.lower() in SYSTEM_DATABASES:
            raise _denied(f"database {value} is the engine's own")


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
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
        raise StoreError(errors.BAD_ARGUMENTS, "SET takes a number or a string")
    return str(int(inner)) if isinstance(inner, bool) else str(inner)


def _words(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Query")).upper()


def _denied(message: str) -> StoreError:
    return StoreError(errors.ACCESS_DENIED, message)


def load_tree(text: str) -> Node:
    """Read the engine's JSON. Numbers are kept as they are written."""
    tree: Node = json.loads(text)
    return tree
