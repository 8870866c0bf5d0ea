"""A request as ClickHouse's HTTP interface reads it: who asks, which statement, settings, parameters, data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from egresslens.store import errors
from egresslens.store.errors import StoreError

# Parameters of the HTTP interface that are not settings of the engine. Those named second change only how ClickHouse's
# own HTTP server buffers and reports; this one always answers as if the query had been waited for.
_OURS: Final = frozenset(
    "query user password database default_format query_id session_id session_timeout session_check close_session "
    "enable_http_compression wait_end_of_query".split()
)
_WITHOUT_EFFECT: Final = frozenset(
    "buffer_size client_protocol_version send_progress_in_http_headers http_headers_progress_interval_ms "
    "cancel_http_readonly_queries_on_client_close http_zlib_compression_level stacktrace quota_key "
    "http_write_exception_in_output_format http_wait_end_of_query".split()
)
_REFUSED: Final = {
    "compress": "ClickHouse's native block compression is not spoken here; use Accept-Encoding",
    "decompress": "ClickHouse's native block compression is not spoken here; use Content-Encoding",
    "role": "this store has no roles",
}
_EXTERNAL: Final = re.compile(r"_(format|types|structure)$")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUERY_ID: Final = re.compile(r"[\w.:-]{1,128}")

_IDENTIFIER: Final = r"""(?:[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.|``)+`|"(?:[^"\\]|\\.|"")+")"""
_BLANK: Final = r"(?:[ \t\r\n\f\v]|--[^\n]*\n|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)"
_DOTTED: Final = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*"
# An insert with data. Only this plain form; everything else goes to the engine's parser and is judged there. What is
# sent to the engine is put together again from the parts found here.
_INSERT: Final = re.compile(
    rf"""{_BLANK}*INSERT{_BLANK}+INTO{_BLANK}+(?:TABLE{_BLANK}+)?
    (?P<table>{_IDENTIFIER}(?:\.{_IDENTIFIER})?){_BLANK}*
    (?:\({_BLANK}*(?P<columns>{_DOTTED}(?:{_BLANK}*,{_BLANK}*{_DOTTED})*){_BLANK}*\))?{_BLANK}*
    (?:SETTINGS{_BLANK}+(?P<settings>{_NAME.pattern}{_BLANK}*={_BLANK}*(?:-?[0-9.]+|'[^'\\]*')
        (?:{_BLANK}*,{_BLANK}*{_NAME.pattern}{_BLANK}*={_BLANK}*(?:-?[0-9.]+|'[^'\\]*'))*){_BLANK}*)?
    (?:FORMAT{_BLANK}+(?P<format>[A-Za-z0-9]+)(?:[ \t\f]*(?:\r?\n|$)|[ \t\f]+)|(?P<values>VALUES\b))""".replace(
        "\n    ", ""
    ).replace("    ", ""),
    re.IGNORECASE,
)
_SETTING: Final = re.compile(rf"({_NAME.pattern}){_BLANK}*={_BLANK}*(?:'([^']*)'|(-?[0-9.]+))")
_INSERT_WORD: Final = re.compile(rf"{_BLANK}*INSERT\b", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """What the URL, a form and the headers say beside the statement itself."""

    query: str
    database: str
    query_id: str
    default_format: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    compress: bool
    wait: bool
    session_id: str
    session_timeout: str
    session_check: bool
    close_session: bool


@dataclass(frozen=True)
class Insert:
    """An insert with data: the statement up to FORMAT, the format, and the data already read with the statement."""

    statement: str
    input_format: str
    settings: Mapping[str, str]
    data: bytes


def options(values: Mapping[str, str], headers: Mapping[str, str]) -> Options:
    """Sort a request's parameters.

    Raises:
        StoreError: one that cannot be served, with the reason.
    """
    settings: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for name, value in values.items():
        if name in _REFUSED and value not in ("", "0"):
            raise StoreError(errors.SUPPORT_IS_DISABLED, _REFUSED[name])
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name not in _OURS and name not in _WITHOUT_EFFECT and name not in _REFUSED:
            if _EXTERNAL.search(name) and name.rsplit("_", 1)[0] + "_structure" in values:
                raise StoreError(errors.SUPPORT_IS_DISABLED, "external data is not supported by this store")
            settings[name] = value
    query_id = values.get("query_id", "")
    if query_id and not _QUERY_ID.fullmatch(query_id):
        raise StoreError(errors.BAD_REQUEST_PARAMETER, "query_id may have letters, digits and .:-_")
    database = values.get("database") or headers.get("X-ClickHouse-Database", "")
    if database.lower() == "system":
        raise StoreError(errors.DATABASE_ACCESS_DENIED, "name system tables as system.TABLE")
    return Options(
        query=values.get("query", ""),
        database=database,
        query_id=query_id,
        default_format=values.get("default_format")
        or headers.get("X-ClickHouse-Format", "")
        or "TabSeparated",
        settings=settings,
        parameters=parameters,
        compress=values.get("enable_http_compression", "0") not in ("0", "false", ""),
        wait=values.get("wait_end_of_query", "0") not in ("0", "false", ""),
        session_id=values.get("session_id", ""),
        session_timeout=values.get("session_timeout", ""),
        session_check=values.get("session_check", "0") == "1",
        close_session=values.get("close_session", "0") == "1",
    )


def is_insert(head: bytes) -> bool:
    """Whether the text begins as an insert."""
    return _INSERT_WORD.match(head[:65536].decode("latin-1")) is not None


def insert(head: bytes) -> Insert | None:
    """Read an insert with data; None if this is another statement (INSERT … SELECT among them).

    `head` is the beginning of statement and data, long enough to hold the whole statement.
    """
    # latin-1 keeps every byte in its place; identifiers are taken back to UTF-8 below.
    found = _INSERT.match(head.decode("latin-1"))
    if not found:
        return None
    columns = f" ({found['columns']})" if found["columns"] else ""
    try:
        statement = f"INSERT INTO {found['table']}{columns}".encode("latin-1").decode()
    except UnicodeDecodeError:
        raise StoreError(errors.SYNTAX_ERROR, "the statement is not UTF-8") from None
    settings = {name: text or number for name, text, number in _SETTING.findall(found["settings"] or "")}
    return Insert(
        statement=statement,
        input_format=found["format"] or "Values",
        settings=settings,
        data=head[found.end() :],
    )
