"""Geographic databases in MaxMind's format (GeoLite2, DB-IP, IPinfo, one's own)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maxminddb

from egresslens.judge.address import Lookup


def open_geo(path: Path) -> Lookup:
    """Open a database. The file is mapped into memory and stays open.

    Raises:
        ValueError: the file cannot be read or is no such database.
    """
    try:
        reader = maxminddb.open_database(path)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise ValueError(f"the geographic database {path} cannot be used: {error}") from error

    def lookup(ip: str) -> Mapping[str, Any] | None:
        try:
            found = reader.get(ip)
        except ValueError:
            return None  # an IPv6 address in a database of IPv4 addresses
        return found if isinstance(found, dict) else None

    return lookup
