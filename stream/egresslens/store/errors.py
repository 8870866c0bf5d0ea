"""ClickHouse's errors: code, name, text, and the HTTP status ClickHouse gives them."""

from __future__ import annotations

import re
from typing import Final

# Codes of ClickHouse's ErrorCodes.cpp that this server itself answers with.
UNSUPPORTED_METHOD: Final = 1
BAD_ARGUMENTS: Final = 36
NOT_IMPLEMENTED: Final = 48
SYNTAX_ERROR: Final = 62
UNKNOWN_FORMAT: Final = 73
UNKNOWN_COMPRESSION_METHOD: Final = 89
UNKNOWN_SETTING: Final = 115
TIMEOUT_EXCEEDED: Final = 159
READONLY: Final = 164
SOCKET_TIMEOUT: Final = 209
QUERY_IS_TOO_LARGE: Final = 229
REQUIRED_PASSWORD: Final = 194
TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
CANNOT_DECOMPRESS: Final = 271
DATABASE_ACCESS_DENIED: Final = 291
SUPPORT_IS_DISABLED: Final = 344
INTO_OUTFILE_NOT_ALLOWED: Final = 358
SESSION_NOT_FOUND: Final = 372
SESSION_IS_LOCKED: Final = 373
INVALID_SESSION_TIMEOUT: Final = 374
BAD_REQUEST_PARAMETER: Final = 408
FUNCTION_NOT_ALLOWED: Final = 446
SETTING_CONSTRAINT_VIOLATION: Final = 452
BAD_QUERY_PARAMETER: Final = 457
INVALID_USAGE_OF_INPUT: Final = 477
ACCESS_DENIED: Final = 497
AUTHENTICATION_FAILED: Final = 516
TOO_LARGE_REQUEST: Final = 1002

_NAMES: Final = {
    UNSUPPORTED_METHOD: "UNSUPPORTED_METHOD",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
    DATABASE_ACCESS_DENIED: "DATABASE_ACCESS_DENIED",
    INTO_OUTFILE_NOT_ALLOWED: "INTO_OUTFILE_NOT_ALLOWED",
    BAD_REQUEST_PARAMETER: "BAD_REQUEST_PARAMETER",
    FUNCTION_NOT_ALLOWED: "FUNCTION_NOT_ALLOWED",
    INVALID_USAGE_OF_INPUT: "INVALID_USAGE_OF_INPUT",
    UNKNOWN_COMPRESSION_METHOD: "UNKNOWN_COMPRESSION_METHOD",
    TIMEOUT_EXCEEDED: "TIMEOUT_EXCEEDED",
    READONLY: "READONLY",
    SOCKET_TIMEOUT: "SOCKET_TIMEOUT",
    QUERY_IS_TOO_LARGE: "QUERY_IS_TOO_LARGE",
    REQUIRED_PASSWORD: "REQUIRED_PASSWORD",
    TOO_MANY_SIMULTANEOUS_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    SUPPORT_IS_DISABLED: "SUPPORT_IS_DISABLED",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    INVALID_SESSION_TIMEOUT: "INVALID_SESSION_TIMEOUT",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    BAD_QUERY_PARAMETER: "BAD_QUERY_PARAMETER",
    ACCESS_DENIED: "ACCESS_DENIED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    TOO_LARGE_REQUEST: "UNKNOWN_EXCEPTION",
}

# ClickHouse's exceptionCodeToHTTPStatus; every other code is a 500.
_STATUS: Final = {
    **dict.fromkeys((REQUIRED_PASSWORD,), 401),
    **dict.fromkeys((192, 193, AUTHENTICATION_FAILED, 497, 512), 403),
    **dict.fromkeys(
        # BAD_ARGUMENTS, CANNOT_COMPILE_REGEXP, CANNOT_PARSE_*, TYPE_MISMATCH, SYNTAX_ERROR, UNEXPECTED_*, …
        (
            *(
                6,
                26,
                27,
                36,
                38,
                39,
                41,
                42,
                43,
                44,
                46,
                53,
                62,
                63,
                64,
                69,
                72,
                117,
                130,
                131,
                166,
                186,
                190,
            ),
            *(284, 321, 427, 441, 456, 457, 467, 469, 675, 676),
        ),
        400,
    ),
    # UNKNOWN_FUNCTION, _IDENTIFIER, _TYPE, _STORAGE, _SETTING, _FORMAT, _TABLE, _DATABASE, …
    **dict.fromkeys((46, 47, 50, 56, 60, 73, 78, 81, 115), 404),
    QUERY_IS_TOO_LARGE: 413,
    TOO_LARGE_REQUEST: 413,
    NOT_IMPLEMENTED: 501,
    TIMEOUT_EXCEEDED: 408,
    SOCKET_TIMEOUT: 408,
    TOO_MANY_SIMULTANEOUS_QUERIES: 503,
}

_CODE: Final = re.compile(r"Code: (\d+)\. ")
_REPEATED: Final = re.compile(r"Code: (\d+)\. DB::Exception: (?=Code: \1\. DB::Exception: )")
_TAIL: Final = re.compile(r"( \(version [0-9.]+\))?\. \(([A-Z_0-9]+)\)\s*$")


class StoreError(Exception):
    """A refusal or an engine's error, as ClickHouse would say it. `text` is the response's whole body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.text = f"Code: {code}. DB::Exception: {message}. ({_NAMES.get(code, 'UNKNOWN_EXCEPTION')})"

    @property
    def status(self) -> int:
        """The HTTP status ClickHouse answers this code with."""
        return _STATUS.get(self.code, 500)


class EngineError(StoreError):
    """What the engine itself said, kept word for word."""

    def __init__(self, text: str) -> None:
        text = _REPEATED.sub("", text.strip())
        found = _CODE.search(text)
        # 1001 STD_EXCEPTION: an error of the engine's interface rather than of a query.
        super().__init__(int(found.group(1)) if found else 1001, text)
        self.text = text if found else f"Code: 1001. DB::Exception: {text}. (STD_EXCEPTION)"
