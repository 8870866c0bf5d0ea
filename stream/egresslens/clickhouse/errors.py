"""What to do about each error of ClickHouse or of the way to it: one table.

Retrying for ever is the rule: nothing is committed meanwhile, so nothing is lost, and whatever an operator
repairs (a disk, a grant, a schema) is taken up without a restart. Split is for inserts that are too much at
once. Dead-letter is for rows that no server would ever accept. Fatal is for requests that are wrong in
themselves: a bug of this program, which waiting does not mend.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Final

from clickhouse_connect.driver.exceptions import ClickHouseError, Error, ProgrammingError


class Verdict(str, Enum):
    """What is to be done."""

    RETRY = "retry"
    SPLIT = "split"
    DEAD_LETTER = "dead_letter"
    FATAL = "fatal"


class Reason(str, Enum):
    """What kind of trouble it is: a bounded set, for metric labels."""

    UNREACHABLE = "unreachable"
    SLOW = "slow"
    BUSY = "busy"
    READ_ONLY = "read_only"
    DISK_FULL = "disk_full"
    TOO_MANY_PARTS = "too_many_parts"
    TOO_MANY_PARTITIONS = "too_many_partitions"
    TOO_LARGE = "too_large"
    MEMORY = "memory"
    REPLICATION = "replication"
    SCHEMA = "schema"
    ACCESS = "access"
    DATA = "data"
    REQUEST = "request"
    OTHER = "other"


@dataclass(frozen=True)
class Trouble:
    """An error, sorted. `code` and `name` are ClickHouse's, None where ClickHouse did not answer."""

    verdict: Verdict
    reason: Reason
    code: int | None
    name: str | None
    message: str

    def __str__(self) -> str:
        """`DISK_FULL (243 NOT_ENOUGH_SPACE): …` without ClickHouse's stack."""
        code = f" ({self.code} {self.name or ''})" if self.code is not None else ""
        return f"{self.reason.value}{code}: {self.message}"


# Code -> (ClickHouse's name, what to do, kind). Names are those of ClickHouse's ErrorCodes.cpp.
CODES: Final[dict[int, tuple[str, Verdict, Reason]]] = {
    # Down, or on the way down or up.
    209: ("SOCKET_TIMEOUT", Verdict.RETRY, Reason.UNREACHABLE),
    210: ("NETWORK_ERROR", Verdict.RETRY, Reason.UNREACHABLE),
    198: ("DNS_ERROR", Verdict.RETRY, Reason.UNREACHABLE),
    279: ("ALL_CONNECTION_TRIES_FAILED", Verdict.RETRY, Reason.UNREACHABLE),
    236: ("ABORTED", Verdict.RETRY, Reason.UNREACHABLE),
    394: ("QUERY_WAS_CANCELLED", Verdict.RETRY, Reason.UNREACHABLE),
    # A body that broke off: the connection's fault, the rows were never seen.
    33: ("CANNOT_READ_ALL_DATA", Verdict.RETRY, Reason.UNREACHABLE),
    32: ("ATTEMPT_TO_READ_AFTER_EOF", Verdict.RETRY, Reason.UNREACHABLE),
    # Slow or full of work.
    159: ("TIMEOUT_EXCEEDED", Verdict.RETRY, Reason.SLOW),
    160: ("TOO_SLOW", Verdict.RETRY, Reason.SLOW),
    473: ("DEADLOCK_AVOIDED", Verdict.RETRY, Reason.BUSY),
    202: ("TOO_MANY_SIMULTANEOUS_QUERIES", Verdict.RETRY, Reason.BUSY),
    203: ("NO_FREE_CONNECTION", Verdict.RETRY, Reason.BUSY),
    201: ("QUOTA_EXCEEDED", Verdict.RETRY, Reason.BUSY),
    373: ("SESSION_IS_LOCKED", Verdict.RETRY, Reason.BUSY),
    439: ("CANNOT_SCHEDULE_TASK", Verdict.RETRY, Reason.BUSY),
    # Not taking writes now.
    242: ("TABLE_IS_READ_ONLY", Verdict.RETRY, Reason.READ_ONLY),
    774: ("TABLE_IS_PERMANENTLY_READ_ONLY", Verdict.RETRY, Reason.READ_ONLY),
    164: ("READONLY", Verdict.RETRY, Reason.READ_ONLY),
    243: ("NOT_ENOUGH_SPACE", Verdict.RETRY, Reason.DISK_FULL),
    75: ("CANNOT_WRITE_TO_FILE_DESCRIPTOR", Verdict.RETRY, Reason.DISK_FULL),
    # Merges are behind. The same code says that one insert touches too many partitions: see `sort`.
    252: ("TOO_MANY_PARTS", Verdict.RETRY, Reason.TOO_MANY_PARTS),
    # Too much at once.
    241: ("MEMORY_LIMIT_EXCEEDED", Verdict.SPLIT, Reason.MEMORY),
    173: ("CANNOT_ALLOCATE_MEMORY", Verdict.SPLIT, Reason.MEMORY),
    158: ("TOO_MANY_ROWS", Verdict.SPLIT, Reason.TOO_LARGE),
    307: ("TOO_MANY_BYTES", Verdict.SPLIT, Reason.TOO_LARGE),
    396: ("TOO_MANY_ROWS_OR_BYTES", Verdict.SPLIT, Reason.TOO_LARGE),
    1002: ("UNKNOWN_EXCEPTION", Verdict.SPLIT, Reason.TOO_LARGE),  # the embedded store's limit on a body
    # Replicas and Keeper.
    225: ("NO_ZOOKEEPER", Verdict.RETRY, Reason.REPLICATION),
    285: ("TOO_FEW_LIVE_REPLICAS", Verdict.RETRY, Reason.REPLICATION),
    286: ("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", Verdict.RETRY, Reason.REPLICATION),
    289: ("REPLICA_IS_NOT_IN_QUORUM", Verdict.RETRY, Reason.REPLICATION),
    319: ("UNKNOWN_STATUS_OF_INSERT", Verdict.RETRY, Reason.REPLICATION),
    999: ("KEEPER_EXCEPTION", Verdict.RETRY, Reason.REPLICATION),
    # The schema is behind (or the database is not there yet): `egresslens migrate` mends it.
    60: ("UNKNOWN_TABLE", Verdict.RETRY, Reason.SCHEMA),
    81: ("UNKNOWN_DATABASE", Verdict.RETRY, Reason.SCHEMA),
    16: ("NO_SUCH_COLUMN_IN_TABLE", Verdict.RETRY, Reason.SCHEMA),
    8: ("THERE_IS_NO_COLUMN", Verdict.RETRY, Reason.SCHEMA),
    10: ("NOT_FOUND_COLUMN_IN_BLOCK", Verdict.RETRY, Reason.SCHEMA),
    20: ("NUMBER_OF_COLUMNS_DOESNT_MATCH", Verdict.RETRY, Reason.SCHEMA),
    47: ("UNKNOWN_IDENTIFIER", Verdict.RETRY, Reason.SCHEMA),
    218: ("TABLE_IS_DROPPED", Verdict.RETRY, Reason.SCHEMA),
    # A password or grant is wrong, or not there yet.
    192: ("UNKNOWN_USER", Verdict.RETRY, Reason.ACCESS),
    193: ("WRONG_PASSWORD", Verdict.RETRY, Reason.ACCESS),
    194: ("REQUIRED_PASSWORD", Verdict.RETRY, Reason.ACCESS),
    291: ("DATABASE_ACCESS_DENIED", Verdict.RETRY, Reason.ACCESS),
    497: ("ACCESS_DENIED", Verdict.RETRY, Reason.ACCESS),
    516: ("AUTHENTICATION_FAILED", Verdict.RETRY, Reason.ACCESS),
    # A value no column takes.
    6: ("CANNOT_PARSE_TEXT", Verdict.DEAD_LETTER, Reason.DATA),
    26: ("CANNOT_PARSE_QUOTED_STRING", Verdict.DEAD_LETTER, Reason.DATA),
    27: ("CANNOT_PARSE_INPUT_ASSERTION_FAILED", Verdict.DEAD_LETTER, Reason.DATA),
    53: ("TYPE_MISMATCH", Verdict.DEAD_LETTER, Reason.DATA),
    69: ("ARGUMENT_OUT_OF_BOUND", Verdict.DEAD_LETTER, Reason.DATA),
    70: ("CANNOT_CONVERT_TYPE", Verdict.DEAD_LETTER, Reason.DATA),
    72: ("CANNOT_PARSE_NUMBER", Verdict.DEAD_LETTER, Reason.DATA),
    117: ("INCORRECT_DATA", Verdict.DEAD_LETTER, Reason.DATA),
    128: ("TOO_LARGE_ARRAY_SIZE", Verdict.DEAD_LETTER, Reason.DATA),
    131: ("TOO_LARGE_STRING_SIZE", Verdict.DEAD_LETTER, Reason.DATA),
    190: ("SIZES_OF_ARRAYS_DONT_MATCH", Verdict.DEAD_LETTER, Reason.DATA),
    321: ("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", Verdict.DEAD_LETTER, Reason.DATA),
    349: ("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", Verdict.DEAD_LETTER, Reason.DATA),
    407: ("DECIMAL_OVERFLOW", Verdict.DEAD_LETTER, Reason.DATA),
    469: ("VIOLATED_CONSTRAINT", Verdict.DEAD_LETTER, Reason.DATA),
    # A request that no server takes.
    36: ("BAD_ARGUMENTS", Verdict.FATAL, Reason.REQUEST),
    42: ("NUMBER_OF_ARGUMENTS_DOESNT_MATCH", Verdict.FATAL, Reason.REQUEST),
    43: ("ILLEGAL_TYPE_OF_ARGUMENT", Verdict.FATAL, Reason.REQUEST),
    46: ("UNKNOWN_FUNCTION", Verdict.FATAL, Reason.REQUEST),
    48: ("NOT_IMPLEMENTED", Verdict.FATAL, Reason.REQUEST),
    62: ("SYNTAX_ERROR", Verdict.FATAL, Reason.REQUEST),
    73: ("UNKNOWN_FORMAT", Verdict.FATAL, Reason.REQUEST),
    115: ("UNKNOWN_SETTING", Verdict.FATAL, Reason.REQUEST),
    344: ("SUPPORT_IS_DISABLED", Verdict.FATAL, Reason.REQUEST),
    452: ("SETTING_CONSTRAINT_VIOLATION", Verdict.FATAL, Reason.REQUEST),
}

# "Too many partitions for single INSERT block (more than 100)" comes with the code of too many parts.
_TOO_MANY_PARTITIONS: Final = "Too many partitions"
_PAYLOAD_TOO_LARGE: Final = "413"
_MESSAGE_LIMIT: Final = 500


def sort(error: Exception) -> Trouble | None:
    """Sort an error of a request to ClickHouse; None if it is none (a bug elsewhere: let it pass)."""
    if isinstance(error, Error) and error.code is not None:
        return _answered(error.code, error.name, str(error))
    message = str(error) or type(error).__name__
    if isinstance(error, ProgrammingError):
        return Trouble(Verdict.FATAL, Reason.REQUEST, None, None, message[:_MESSAGE_LIMIT])
    if isinstance(error, ClickHouseError) and f"status {_PAYLOAD_TOO_LARGE}" in message:
        return Trouble(Verdict.SPLIT, Reason.TOO_LARGE, None, None, message[:_MESSAGE_LIMIT])
    if isinstance(error, ClickHouseError | OSError | asyncio.TimeoutError) or _is_aiohttps(error):
        return Trouble(Verdict.RETRY, Reason.UNREACHABLE, None, None, message[:_MESSAGE_LIMIT])
    return None


def _is_aiohttps(error: Exception) -> bool:
    """Whether aiohttp raised it: by name, since importing it takes commands that have no use for it 0.1 s."""
    return any(one.__module__.partition(".")[0] == "aiohttp" for one in type(error).__mro__)


def _answered(code: int, name: str | None, message: str) -> Trouble:
    known, verdict, reason = CODES.get(code, (name, Verdict.RETRY, Reason.OTHER))
    if code == 252 and _TOO_MANY_PARTITIONS in message:
        verdict, reason = Verdict.SPLIT, Reason.TOO_MANY_PARTITIONS
    return Trouble(verdict, reason, code, name or known, message[:_MESSAGE_LIMIT])
