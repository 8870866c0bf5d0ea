"""Telling the receivers: the topic, Alertmanager, a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import orjson

from egresslens import __version__
from egresslens.alerts.book import Incident
from egresslens.kafka import client
from egresslens.kafka.publish import Publisher, PublishError, Record, partition_for
from egresslens.settings import Settings

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, connect=5)
# Alertmanager takes an alert for resolved that was not repeated until then.
_EXPIRES: Final = timedelta(minutes=5)
# Alerts in one request to Alertmanager.
MANY: Final = 64


class DeliveryError(Exception):
    """A receiver does not take alerts now; the message holds no secret."""


class Receiver(Protocol):
    """Somebody who is told."""

    name: str

    async def tell(self, incidents: Sequence[Incident], now: datetime) -> None:
        """Tell the states of up to MANY incidents.

        Raises:
            DeliveryError: not all were taken; tell all of them again.
        """

    async def close(self) -> None:
        """Close connections."""


class TopicReceiver:
    """One JSON message (messages.AlertMessage) per change of state; the key is the caller's."""

    name = "topic"

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.alerts_topic
        self._publisher = Publisher(client.aiokafka(settings), timeout=10.0)
        self._partitions = 0

    async def tell(self, incidents: Sequence[Incident], now: datetime) -> None:  # noqa: ARG002 - the protocol's
        """See Receiver."""
        try:
            self._partitions = self._partitions or await self._publisher.partitions(self._topic)
            records: dict[int, list[Record]] = {}
            for one in incidents:
                key = one.subject.key
                record: Record = (key, as_json(one), [])
                records.setdefault(partition_for(key, self._partitions), []).append(record)
            await self._publisher.publish(self._topic, records)
        except PublishError as error:
            raise DeliveryError(str(error)) from None

    async def close(self) -> None:
        """See Receiver."""
        await self._publisher.stop()


class _Http:
    """What the receivers over HTTP share."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = {
            "User-Agent": f"egresslens/{__version__}",
            "Content-Type": "application/json",
            **headers,
        }
        self._session: aiohttp.ClientSession | None = None

    async def _post(self, body: bytes, headers: dict[str, str]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers)
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status // 100 != 2:
                    raise DeliveryError(f"{masked(self._url)} answers {answer.status}")
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            # aiohttp's messages may hold the whole URL.
            raise DeliveryError(f"{masked(self._url)}: {type(error).__name__}") from None

    async def close(self) -> None:
        """See Receiver."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class Webhook(_Http):
    """One POST per change of state; the header Idempotency-Key tells repeats."""

    name = "webhook"

    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(url, {"Authorization": f"Bearer {token}"} if token else {})

    async def tell(self, incidents: Sequence[Incident], now: datetime) -> None:  # noqa: ARG002 - the protocol's
        """See Receiver."""
        for one in incidents:
            await self._post(as_json(one), {"Idempotency-Key": f"{one.id}-{one.state}"})


class Alertmanager(_Http):
    """Alertmanager's v2 API. What goes on must be repeated; Alertmanager merges it by its labels."""

    name = "alertmanager"

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/") + "/api/v2/alerts", {})

    async def tell(self, incidents: Sequence[Incident], now: datetime) -> None:
        """See Receiver."""
        await self._post(orjson.dumps([alertmanager_alert(one, now) for one in incidents]), {})


def alertmanager_alert(one: Incident, now: datetime) -> dict[str, Any]:
    """An incident as a `postableAlert`. The labels stay the same as long as the incident goes on."""
    message = one.message()
    labels = {
        "alertname": f"Egress_{one.kind}",
        "incident": one.id,
        "rule": one.rule,
        "severity": one.severity,
        "cluster": one.subject.source_cluster,
        "namespace": one.subject.source_namespace,
        "workload": one.subject.source_workload,
        "source_ip": one.subject.source_ip,
        "destination_host": one.subject.destination_host,
        "destination_port": one.subject.destination_port,
    }
    ends = now if one.state == "resolved" else now + _EXPIRES
    return {
        "labels": {name: str(value) for name, value in labels.items() if value is not None},
        "annotations": {"summary": message.summary, "count": str(one.count), **one.details},
        "startsAt": min(one.first_seen, ends).isoformat(),
        "endsAt": ends.isoformat(),
    }


def as_json(one: Incident) -> bytes:
    """The incident as messages.AlertMessage."""
    return one.message().model_dump_json().encode()


def masked(url: str) -> str:
    """A URL without what may be secret in it: user, password, path and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}/..."


def receivers(settings: Settings) -> list[Receiver]:
    """Everybody the settings name; inert until told something."""
    found: list[Receiver] = [TopicReceiver(settings)]
    if settings.alertmanager_url:
        found.append(Alertmanager(settings.alertmanager_url))
    if settings.alert_webhook_url:
        token = settings.alert_webhook_token
        found.append(
            Webhook(
                settings.alert_webhook_url.get_secret_value(), token.get_secret_value() if token else None
            )
        )
    return found
