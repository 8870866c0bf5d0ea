"""The answers of the API: one module per question, each a blocking function of Context and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from clickhouse_connect.driver.client import Client

from egresslens.console.recent import Recent
from egresslens.settings import Settings


@dataclass(frozen=True)
class Context:
    """What an answer is made with. `user` is who asks, None where nobody needs to log in."""

    settings: Settings
    reader: Client
    now: datetime
    user: str | None
    recent: Recent
