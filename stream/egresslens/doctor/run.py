"""Ask every part at once, each check within its own time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import aiokafka.errors
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from egresslens.alerts.rules import RulesError, read_rules
from egresslens.clickhouse.client import Role, connect
from egresslens.doctor import brokers, fetch, groups, sample, store, topics, worker
from egresslens.doctor.finding import Finding, Status, fail, ok, skipped
from egresslens.kafka import client
from egresslens.registry.geo import open_geo
from egresslens.settings import Settings

DEFAULT_SAMPLE: Final = 2_000
DEFAULT_TIMEOUT_S: Final = 10.0

_SLOW: Final = "Is the server overloaded, or a firewall in between? `--timeout` gives it longer."

Findings = Sequence[Finding]


@dataclass(frozen=True)
class Check:
    """Something to ask. `run` may block for ever and may raise: both become findings."""

    part: str
    run: Callable[[], Findings]


def diagnose(
    settings: Settings,
    *,
    workers: Iterable[str] = (),
    count: int = DEFAULT_SAMPLE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Iterator[Finding]:
    """Look at everything, and give findings as they come: at most about twice `timeout_s`.

    First whether the servers can be reached, all at once; then what they hold. What needs a server that
    cannot be reached is skipped, and says so.
    """
    writer, reader = (partial(_account, settings, role, timeout_s) for role in ("writer", "reader"))
    first = [
        Check("settings", partial(files, settings)),
        Check(brokers.PART, partial(brokers.reach, settings, timeout_s)),
        Check(store.PART, writer),
        Check(store.PART, reader),
        *(Check(worker.PART, partial(worker.ready, url, timeout_s)) for url in workers),
    ]
    answered = at_once(first, timeout_s)
    yield from (finding for found in answered for finding in found)
    _, of_brokers, of_writer, of_reader, *_ = answered
    if not any(one.status is Status.OK for one in of_brokers):
        yield skipped("topics", "topics, workers, lag, messages and alerts: no broker can be asked")
        second = []
    else:
        second = _of_kafka(settings, count, timeout_s)
    if _reached(of_reader):
        second += _of_reader(settings, timeout_s)
    if _reached(of_writer):
        second += _of_writer(settings, timeout_s)
    if not (_reached(of_reader) or _reached(of_writer)):
        yield skipped(
            store.PART, "schema, rights, disks, dead letters and registry: the store cannot be asked"
        )
    for found in at_once(second, timeout_s):
        yield from found


def at_once(checks: Sequence[Check], timeout_s: float) -> list[Findings]:
    """Run checks side by side; one that is not done in time is a finding, and is left to itself."""
    deadline = time.monotonic() + timeout_s + 1  # clients' own limits come first: they know more
    answers: list[SimpleQueue[Findings]] = [SimpleQueue() for _ in checks]
    for check, answer in zip(checks, answers, strict=True):
        threading.Thread(target=lambda c=check, a=answer: a.put(_run(c)), daemon=True).start()
    return [
        _within(check, answer, deadline, timeout_s) for check, answer in zip(checks, answers, strict=True)
    ]


def _run(check: Check) -> Findings:
    try:
        return check.run()
    except asyncio.TimeoutError:
        return [fail(check.part, "no answer in time", _SLOW)]
    except (KafkaError, aiokafka.errors.KafkaError, ClickHouseError, OSError) as error:
        return [fail(check.part, f"{type(error).__name__}: {error}"[:400], "Look at the server's log.")]
    except Exception as error:  # noqa: BLE001 - a check that has a bug must not hide the others
        return [fail(check.part, f"the check itself failed: {error!r}"[:400], "This is a bug of egresslens.")]


def _within(check: Check, answer: SimpleQueue[Findings], deadline: float, timeout_s: float) -> Findings:
    try:
        return answer.get(timeout=max(0.0, deadline - time.monotonic()))
    except Empty:
        said = f"no answer within {timeout_s:g} s"
        return [fail(check.part, said, _SLOW)]


def _reached(found: Findings) -> bool:
    return all(one.status is not Status.FAIL for one in found)


def files(settings: Settings) -> Findings:
    """The files that settings name: rules, certificates, the geographic database."""
    found: list[Finding] = []
    try:
        rules = read_rules(settings.alert_rules)
        found.append(ok("settings", f"settings are valid, {len(rules.rules)} alert rules"))
    except RulesError as error:
        found.append(fail("settings", str(error), "Mend the file; `egresslens alerts rules` checks it."))
    for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile", "clickhouse_cafile"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            variable = f"EGRESSLENS_{name.upper()}"
            found.append(fail("settings", f"{variable}: there is no file {path}", f"Mend {variable}."))
    if settings.geo_database:
        try:
            open_geo(settings.geo_database)
        except ValueError as error:
            found.append(fail("settings", str(error), "Mend EGRESSLENS_GEO_DATABASE."))
    return found


# --- what needs the brokers ---------------------------------------------------------------------------------


def _of_kafka(settings: Settings, count: int, timeout_s: float) -> list[Check]:
    def by_admin(part: str, look: Callable[[KafkaAdminClient], Findings]) -> Check:
        return Check(part, partial(_with_admin, settings, timeout_s, look))

    def now() -> datetime:
        return datetime.now(timezone.utc)

    return [
        by_admin(brokers.PART, lambda admin: brokers.advertised(admin, settings, timeout_s / 4)),
        by_admin(topics.PART, lambda admin: topics.topics(admin, settings)),
        by_admin("workers", lambda admin: groups.workers(admin, settings)),
        by_admin("lag", lambda admin: groups.lag(admin, settings, now(), timeout_s)),
        by_admin("alerts", lambda admin: groups.alerts(admin, settings)),
        by_admin(sample.PART, lambda admin: _messages(admin, settings, count, timeout_s)),
    ]


def _with_admin(
    settings: Settings, timeout_s: float, look: Callable[[KafkaAdminClient], Findings]
) -> Findings:
    milliseconds = int(timeout_s * 1000)
    admin = KafkaAdminClient(
        **client.kafka_python(settings), request_timeout_ms=milliseconds, bootstrap_timeout_ms=milliseconds
    )
    try:
        return look(admin)
    finally:
        admin.close()


def _messages(admin: KafkaAdminClient, settings: Settings, count: int, timeout_s: float) -> Findings:
    partitions = fetch.partitions(admin, settings)
    if not partitions:
        return [skipped(sample.PART, "there is no topic that could be read")]
    try:
        taken = sample.take(admin, settings, partitions, count, timeout_s)
    except (TopicAuthorizationFailedError, aiokafka.errors.TopicAuthorizationFailedError):
        return [skipped(sample.PART, "the access logs may not be read by this user")]
    return sample.messages(taken, settings, datetime.now(timezone.utc))


# --- what needs the store -----------------------------------------------------------------------------------


def _account(settings: Settings, role: Role, timeout_s: float) -> Findings:
    """Whether this account may ask at all."""
    user = settings.clickhouse_reader_user if role == "reader" else settings.clickhouse_user
    try:
        _with_client(settings, role, timeout_s, lambda one: [store.version(one)])
    except (ClickHouseError, OSError) as error:
        return [store.unreached(settings, role, error)]
    return [ok(store.PART, f"{settings.clickhouse_url} answers {user} (the {role})")]


def _of_writer(settings: Settings, timeout_s: float) -> list[Check]:
    return _store_checks(
        settings,
        "writer",
        timeout_s,
        {
            "the schema": lambda one: store.schema(one, settings),
            "the writer's rights": lambda one: [store.writer_may_write(one, settings)],
            "disks": store.disks,
            "parts": lambda one: [store.parts(one, settings)],
        },
    )


def _of_reader(settings: Settings, timeout_s: float) -> list[Check]:
    return _store_checks(
        settings,
        "reader",
        timeout_s,
        {
            "the version": lambda one: [store.version(one)],
            "the clock": lambda one: [store.clock(one, datetime.now(timezone.utc))],
            "the reader's rights": lambda one: [store.reader_may_not_write(one, settings)],
            "the views": lambda one: [store.views(one, settings)],
            "dead letters": lambda one: [store.dead_letters(one, settings)],
            "the registry": lambda one: store.registry(one, settings, datetime.now(timezone.utc)),
        },
    )


def _store_checks(
    settings: Settings, role: Role, timeout_s: float, looks: Mapping[str, Callable[[Client], Findings]]
) -> list[Check]:
    return [
        Check(store.PART, partial(_with_schema, settings, role, timeout_s, what, look))
        for what, look in looks.items()
    ]


def _with_schema(
    settings: Settings, role: Role, timeout_s: float, what: str, look: Callable[[Client], Findings]
) -> Findings:
    """Look, unless it is not there yet, or this account may not see it: rights have checks of their own."""
    try:
        return _with_client(settings, role, timeout_s, look)
    except ClickHouseError as error:
        if store.is_schema(error):
            return [skipped(store.PART, f"{what} cannot be looked at before the schema is there")]
        if store.is_access(error):
            return [skipped(store.PART, f"{what} may not be seen by the {role}")]
        raise


def _with_client(
    settings: Settings, role: Role, timeout_s: float, look: Callable[[Client], Findings]
) -> Findings:
    limited = settings.model_copy(
        update={"clickhouse_timeout_s": min(timeout_s, settings.clickhouse_timeout_s)}
    )
    one = connect(limited, role)
    try:
        return look(one)
    finally:
        one.close()
