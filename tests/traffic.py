"""Builders of observed traffic."""

from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl

from egresslens import observed

UNTIL = datetime(2026, 3, 1, tzinfo=timezone.utc)
SINCE = UNTIL - timedelta(days=40)


def seen(host: str | None = "api.example.com", **given: Any) -> dict[str, Any]:
    """A row of OBSERVED, TLS by default; `traffic` is what the proxy could read."""
    traffic = given.get("traffic", "tls")
    sources = {"http": "authority", "tls": "sni", "tcp": "address", "opaque": "registry"}
    return {
        "source_cluster": "prod",
        "source_namespace": "shop",
        "source_workload": "cart",
        "source_ip": None,
        "label": "passthrough" if traffic != "opaque" else "outbound",
        "destination_host": host,
        "destination_host_source": sources[traffic],
        "destination_port": 80 if traffic == "http" else 443,
        "protocol": "HTTP/1.1" if traffic == "http" else None,
        "traffic": traffic,
        "destination_ips": ["192.0.2.1"],
        "requests": 10,
        "first_event": SINCE,
        "last_event": UNTIL - timedelta(hours=1),
        **given,
    }


def traffic(*rows: dict[str, Any]) -> pl.DataFrame:
    """A frame of OBSERVED."""
    return observed.combine([pl.DataFrame(list(rows), schema=observed.OBSERVED)])
