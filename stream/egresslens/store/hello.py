"""The answer to clickhouse-go's greeting.

clickhouse-go (Grafana's driver, read in v2.50) asks for the server's revision before anything else, in blocks
of the native protocol of the version it names in the URL, and then takes all blocks as that revision has
them. The engine here writes those of revision 0 (format Native, no block header); so the answer says 0.
"""

from __future__ import annotations

from typing import Final

HELLO: Final = "SELECT displayName(), version(), revision(), timezone()"
# DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION: from here on every column has a flag after its type.
CUSTOM_SERIALIZATION: Final = 54454
# Field 1 is_overflows = 0, field 2 bucket_num = -1, end.
BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"
REVISION: Final = 0


def hello(display_name: str, version: str, timezone: str, protocol_version: int) -> bytes:
    """The block of one row that answers `HELLO`, as `protocol_version` has it (0: format Native)."""
    columns = (
        ("displayName()", "String", _text(display_name)),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", REVISION.to_bytes(4, "little")),
        ("timezone()", "String", _text(timezone)),
    )
    flag = b"\x00" if protocol_version >= CUSTOM_SERIALIZATION else b""
    info = BLOCK_INFO if protocol_version else b""
    return (
        info
        + bytes((len(columns), 1))
        + b"".join(_text(name) + _text(kind) + flag + value for name, kind, value in columns)
    )


def _text(value: str) -> bytes:
    data = value.encode()[:127]  # a length below 128 is one byte
    return bytes((len(data),)) + data
