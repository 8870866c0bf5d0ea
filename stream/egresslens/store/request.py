"""A request as ClickHouse's HTTP interface reads it: statement, settings, parameters, data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from egresslens.store import errors
from egresslens.store.errors import StoreError

# Parameters of the HTTP interface that are not settings of the engine. The second kind changes only how
# ClickHouse's own HTTP server buffers and reports progress.
_OURS: Final = frozenset(
    {"query", "user", "password", "database", "default_format", "query_id", "session_id", "session_timeout"}
    | {"session_check", "close_session", "enable_http_compression", "wait_end_of_query"}
    | {"client_protocol_version"}
)
_WITHOUT_EFFECT: Final = frozenset(
    {"buffer_size", "send_progress_in_http_headers", "quota_key", "stacktrace"}
    | {"http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close"}
    | {"http_zlib_compression_level", "http_write_exception_in_output_format"}
)
_REFUSED: Final = {
    "compress": "ClickHouse's native block compression is not spoken here; use Accept-Encoding",
    "decompress": "ClickHouse's native block compression is not spoken here; use Content-Encoding",
    "role": "this store has no roles",
}
_EXTERNAL: Final = re.compile(r"_(format|types|structure)$")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUERY_ID: Final = re.compile(r"[\w.:-]{1,128}")


@dataclass(frozen=True)
class Options:
    """What the URL, a form and the headers say beside the statement itself."""

    query: str
    database: str
    query_id: str
    default_format: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    protocol_version: int
    compress: bool
    wait: bool
    session_id: str
    session_timeout: str
    session_check: bool
    close_session: bool


@dataclass(frozen=True)
class Insert:
    """An insert with data: where to (unquoted names), the format, and the data read with the statement."""

    table: tuple[str, ...]
    columns: tuple[str, ...]
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
        protocol_version=_number(values.get("client_protocol_version", "")),
        compress=values.get("enable_http_compression", "0") not in ("0", "false", ""),
        wait=values.get("wait_end_of_query", "0") not in ("0", "false", ""),
        session_id=values.get("session_id", ""),
        session_timeout=values.get("session_timeout", ""),
        session_check=values.get("session_check", "0") == "1",
        close_session=values.get("close_session", "0") == "1",
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def insert(head: bytes) -> Insert | None:
    """Read an insert with data: `INSERT INTO [TABLE] name [(columns)] [SETTINGS …] FORMAT name | VALUES`.

    None for every other text, INSERT … SELECT among them: the engine's parser and the guard judge those. What
    runs is put together again from the names found here, so nothing else of the text reaches the engine.

    Args:
        head: the beginning of statement and data, long enough to hold the whole statement.
    """
    scan = _Scanner(head)
    if not (scan.word("INSERT") and scan.word("INTO")):
        return None
    scan.word("TABLE")
    table = scan.dotted()
    columns = scan.columns()
    settings = scan.settings()
    input_format = scan.format()
    if not 1 <= len(table) <= 2 or columns is None or settings is None or input_format is None:
        return None
    return Insert(
        table=table,
        columns=tuple(".".join(column) for column in columns),
        input_format=input_format,
        settings=settings,
        data=head[scan.position :],
    )


class _Scanner:
    """Reads the plain form of an insert, one piece after another; a piece that is not there moves nothing."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.position = 0

    def word(self, word: str) -> bool:
        found = self._take(_WORD, skip_blank=True)
        if found and found.decode().upper() == word:
            return True
        self.position -= len(found or b"")
        return False

    def dotted(self) -> tuple[str, ...]:
        """`a`, `a.b`, with any quoting; empty if there is no name."""
        parts: list[str] = []
        while (part := self._take(_IDENTIFIER, skip_blank=not parts)) is not None:
            parts.append(_unquoted(part))
            if self._take(_DOT, skip_blank=False) is None:
                return tuple(parts)
        return ()

    def columns(self) -> list[tuple[str, ...]] | None:
        """The names in brackets; none if there are no brackets, None if there is something else in them."""
        columns: list[tuple[str, ...]] = []
        if self._take(_OPEN, skip_blank=True) is None:
            return columns
        while column := self.dotted():
            columns.append(column)
            if self._take(_COMMA, skip_blank=True) is None:
                return columns if self._take(_CLOSE, skip_blank=True) else None
        return None

    def settings(self) -> dict[str, str] | None:
        settings: dict[str, str] = {}
        if not self.word("SETTINGS"):
            return settings
        while (found := self._take(_SETTING, skip_blank=True)) is not None:
            name, _, value = found.decode(errors="replace").partition("=")
            settings[name.strip()] = value.strip().strip("'")
            if self._take(_COMMA, skip_blank=True) is None:
                return settings
        return None

    def format(self) -> str | None:
        """The format's name; the position is then where the data begins."""
        if self.word("VALUES"):
            return "Values"
        if not self.word("FORMAT"):
            return None
        name = self._take(_WORD, skip_blank=True)
        self._take(_END_OF_STATEMENT, skip_blank=False)
        return name.decode() if name else None

    def _take(self, pattern: re.Pattern[bytes], *, skip_blank: bool) -> bytes | None:
        start = self.position
        if skip_blank:
            while blank := _BLANK.match(self._text, start):
                start = blank.end()
        found = pattern.match(self._text, start)
        if not found:
            return None
        self.position = found.end()
        return found.group()


def _unquoted(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise StoreError(errors.SYNTAX_ERROR, "the statement is not UTF-8") from None
    if text[0] not in '`"':
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1].replace(text[0] * 2, text[0]), flags=re.DOTALL)


_BLANK: Final = re.compile(rb"[ \t\r\n\f\v]+|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/")
_WORD: Final = re.compile(rb"[A-Za-z][A-Za-z0-9]*(?![\w.])")
_IDENTIFIER: Final = re.compile(
    rb"""[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.|``)+`|"(?:[^"\\]|\\.|"")+\"""", re.DOTALL
)
_DOT: Final = re.compile(rb"\.")
_COMMA: Final = re.compile(rb",")
_OPEN: Final = re.compile(rb"\(")
_CLOSE: Final = re.compile(rb"\)")
_SETTING: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\s*=\s*(?:-?[0-9.]+|'[^'\\]*')")
# After the format's name ClickHouse skips blanks and one end of line; what follows is data.
_END_OF_STATEMENT: Final = re.compile(rb"[ \t\f]*(?:\r?\n)?")
