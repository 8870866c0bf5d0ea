"""The store: may both accounts do what they must and no more, is the schema this program's, is there room."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.clickhouse.client import Role
from egresslens.clickhouse.errors import Reason, sort
from egresslens.clickhouse.migrate import MigrateError, missing, script
from egresslens.doctor.finding import Finding, fail, ok, warn
from egresslens.doctor.groups import short
from egresslens.registry import store as registries
from egresslens.registry.problems import RegistryError
from egresslens.settings import Settings

PART: Final = "store"
_SKEW: Final = timedelta(seconds=5)
# The oldest ClickHouse that is still maintained; tests run with 26.9.
_OLDEST: Final = (25, 3)
_LITTLE_DISK: Final = 0.1
# ClickHouse slows inserts down at 1,000 parts in one table partition, and refuses them at 3,000.
_MANY_PARTS: Final = 500
_MANY_DEAD: Final = 0.01
# As in compose/clickhouse/users.xml, which a test holds against the engine.
WRITER_GRANTS: Final = "SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW"
_OLD_REGISTRY: Final = timedelta(days=7)


def unreached(settings: Settings, role: Role, error: Exception) -> Finding:
    """What an error of connecting means, and what to do."""
    trouble = sort(error)
    prefix = "EGRESSLENS_CLICKHOUSE_" + ("READER_" if role == "reader" else "")
    user = settings.clickhouse_reader_user if role == "reader" else settings.clickhouse_user
    text = str(error)
    where = f"{settings.clickhouse_url} as {user} (the {role})"
    if trouble and trouble.reason is Reason.ACCESS:
        return fail(PART, f"{where}: user or password is wrong", f"Mend {prefix}USER and {prefix}PASSWORD.")
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return fail(
            PART,
            f"{where}: TLS fails ({_cause(text)})",
            "Give the CA with EGRESSLENS_CLICKHOUSE_CAFILE; is the URL's port the TLS one, its host in the "
            "certificate?",
        )
    if trouble and trouble.reason is Reason.UNREACHABLE:
        return fail(
            PART,
            f"{where}: cannot be reached ({_cause(text)})",
            "Start ClickHouse, or mend EGRESSLENS_CLICKHOUSE_URL (its HTTP interface). None at hand? "
            "`egresslens store`",
        )
    return fail(PART, f"{where}: {text[:300]}", "Look at ClickHouse's log.")


def _cause(text: str) -> str:
    """The innermost words of urllib3's nested errors."""
    found = re.findall(r"\[(?:Errno|SSL)[^\]]*\][^)\"']*", text)
    return found[-1].strip() if found else text[:200]


def version(client: Client) -> Finding:
    """ClickHouse's version."""
    text = str(client.command("SELECT version()"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < _OLDEST:
        return warn(PART, f"ClickHouse {text} is old", "Tested with 26.9; upgrade to 25.3 or newer.")
    return ok(PART, f"ClickHouse {text}", version=text)


def clock(client: Client, before: datetime) -> Finding:
    """The store's clock beside this machine's; `before` is now."""
    theirs = datetime.fromtimestamp(
        float(client.command("SELECT toUnixTimestamp64Milli(now64(3))")) / 1000, timezone.utc
    )
    after = datetime.now(timezone.utc)
    off = theirs - before if theirs < before else max(timedelta(), theirs - after)
    if abs(off) > _SKEW:
        side = "ahead of" if off > timedelta() else "behind"
        return warn(
            "clocks",
            f"the store's clock is {short(abs(off))} {side} this machine's",
            "Mend the clock (NTP) of one of them.",
        )
    return ok("clocks", "the store's clock agrees with this machine's")


def schema(client: Client, settings: Settings) -> list[Finding]:
    """The schema beside this program's: what `egresslens migrate` would do, and views that are gone."""
    try:
        wanted = missing(client, settings)
    except MigrateError as error:
        return [fail(PART, str(error), "Use the program that made the schema, or another database.")]
    if wanted:
        return [
            fail(
                PART,
                f"the schema of {settings.database} is behind: {', '.join(wanted[:4])}"
                + (f" and {len(wanted) - 4} more" if len(wanted) > 4 else ""),
                "`egresslens migrate`",
            )
        ]
    there = _there(client, settings)
    gone = sorted(objects(settings) - there)
    if gone:
        return [
            fail(
                PART,
                f"tables or views are gone: {', '.join(gone)}",
                f"TRUNCATE TABLE {settings.database}.raw_migrations, then `egresslens migrate`: statements "
                "may run twice.",
            )
        ]
    return [ok(PART, f"the schema of {settings.database} is this program's ({len(there)} tables and views)")]


def objects(settings: Settings) -> set[str]:
    """Names of all tables and views that this program's schema makes."""
    kind = "(?:TABLE|VIEW|MATERIALIZED VIEW)"
    made = re.compile(rf"CREATE (?:OR REPLACE )?{kind} (?:IF NOT EXISTS )?{settings.database}\.(\w+)")
    dropped = re.compile(rf"DROP (?:TABLE|VIEW) (?:IF EXISTS )?{settings.database}\.(\w+)")
    found: set[str] = set()
    for statement in script(settings):
        found -= set(dropped.findall(statement))
        found |= set(made.findall(statement))
    return found


def views(client: Client, settings: Settings) -> Finding:
    """Whether the reader may read every published view.

    Reports read the other views and nothing else, and take a while to plan: that they are seen is enough.
    """
    user, database = settings.clickhouse_reader_user, settings.database
    published = sorted(name for name in objects(settings) if not name.startswith("raw_"))
    refused = []
    for name in published:
        ask = "DESCRIBE {}" if name.startswith("report_") else "SELECT 1 FROM {} WHERE 0"
        try:
            client.query(ask.format(f"{database}.{name}"))
        except ClickHouseError as error:
            if is_schema(error):
                raise
            refused.append(name)
    if refused:
        return fail(
            PART,
            f"{user} (the reader) cannot read {len(refused)} of {len(published)}: {', '.join(refused[:3])} …",
            f"GRANT SELECT ON {database}.* TO {user}",
        )
    return ok(PART, f"{user} (the reader) reads all {len(published)} views")


def _there(client: Client, settings: Settings) -> set[str]:
    """Tables and views that this account sees."""
    rows = client.query(
        "SELECT name FROM system.tables WHERE database = {database:String}",
        parameters={"database": settings.database},
    ).result_rows
    return {name for (name,) in rows}


def is_schema(error: Exception) -> bool:
    """Whether ClickHouse says that a table, a view or a column is not there: that is `schema`'s finding."""
    trouble = sort(error)
    return trouble is not None and trouble.reason is Reason.SCHEMA


def is_access(error: Exception) -> bool:
    """Whether ClickHouse says that this account may not see something."""
    trouble = sort(error)
    return trouble is not None and trouble.reason is Reason.ACCESS


def writer_may_write(client: Client, settings: Settings) -> Finding:
    """Whether the writer may insert: it inserts no row."""
    try:
        _insert_nothing(client, settings)
    except ClickHouseError as error:
        trouble = sort(error)
        if is_schema(error):
            raise
        if trouble and trouble.reason is Reason.DISK_FULL:
            return fail(PART, "the store's disk is full", "Free it, or shorten EGRESSLENS_EVENTS_TTL_DAYS.")
        user = settings.clickhouse_user
        return fail(
            PART,
            f"{user} (the writer) may not insert: {str(error)[:200]}",
            f"GRANT {WRITER_GRANTS} ON {settings.database}.* TO {user}",
        )
    return ok(PART, f"{settings.clickhouse_user} (the writer) may insert")


def reader_may_not_write(client: Client, settings: Settings) -> Finding:
    """Whether the reader is held to reading: `egresslens sql`, the console and Grafana use it."""
    user = settings.clickhouse_reader_user
    try:
        _insert_nothing(client, settings)
    except ClickHouseError as error:
        if is_schema(error):
            raise
        return ok(PART, f"{user} (the reader) may not insert")
    return fail(
        PART,
        f"{user} (the reader) may insert: whoever may ask may also change",
        f"Give the reader a user of its own: REVOKE ALL ON *.* FROM {user}; "
        f"GRANT SELECT ON {settings.database}.* TO {user}; ALTER USER {user} SETTINGS readonly = 2",
    )


def _insert_nothing(client: Client, settings: Settings) -> None:
    table = f"{settings.database}.raw_purges"
    client.command(f"INSERT INTO {table} SELECT * FROM {table} WHERE 0")  # noqa: S608 - names of ours


def disks(client: Client) -> list[Finding]:
    """Room on the store's disks."""
    rows = client.query("SELECT name, free_space, total_space FROM system.disks").result_rows
    found = []
    for name, free, total in rows:
        # Object storage has no end, and says 2^64 - 1 or 0.
        if not total or total > 2**60:
            continue
        said = f"disk {name}: {free / 2**30:,.1f} of {total / 2**30:,.1f} GiB are free"
        if free < _LITTLE_DISK * total:
            found.append(
                warn(
                    PART, said, "Add disk, or shorten the EGRESSLENS_…_TTL_DAYS and run `egresslens migrate`."
                )
            )
        else:
            found.append(ok(PART, said, free_bytes=free, total_bytes=total))
    return found


def parts(client: Client, settings: Settings) -> Finding:
    """Parts per table partition: whether merges keep up with inserts."""
    rows = client.query(
        "SELECT table, partition, count() AS parts FROM system.parts "
        "WHERE active AND database = {database:String} GROUP BY table, partition ORDER BY parts DESC LIMIT 1",
        parameters={"database": settings.database},
    ).result_rows
    if not rows:
        return ok(PART, "nothing is stored yet")
    table, partition, count = rows[0]
    said = f"at most {count} parts in a table partition ({table} {partition})"
    if count > _MANY_PARTS:
        mend = "Merges are behind: give ClickHouse CPU and disk, or raise EGRESSLENS_FLUSH_INTERVAL_S."
        return warn(PART, said, mend, parts=count)
    return ok(PART, said, parts=count)


def dead_letters(client: Client, settings: Settings) -> Finding:
    """Dead letters of the last 24 hours beside the requests of that time."""
    reasons = dict(
        client.query(
            f"SELECT reason, count() AS letters FROM {settings.database}.dead_letters "  # noqa: S608 - names of ours
            "WHERE kafka_timestamp > now() - 86400 GROUP BY reason ORDER BY letters DESC"
        ).result_rows
    )
    requests = int(
        client.query(
            f"SELECT sum(requests) FROM {settings.database}.windows_1h "  # noqa: S608 - names of ours
            "WHERE window_start > now() - 86400"
        ).result_rows[0][0]
    )
    letters = sum(reasons.values())
    share = letters / (letters + requests) if letters else 0.0
    said = f"{letters:,} dead letters beside {requests:,} requests in the last 24 hours ({share:.1%})"
    if share > _MANY_DEAD:
        said += ": " + ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
        mend = "`egresslens dlq list`, `egresslens dlq show`; once mended, `egresslens dlq replay`."
        return warn("dead letters", said, mend, reasons=reasons)
    return ok("dead letters", said, reasons=reasons)


def registry(client: Client, settings: Settings, now: datetime) -> list[Finding]:
    """What is declared, how old it is, and whether it can be read."""
    part = "registry"
    try:
        stored = list(registries.read(client, settings))
    except RegistryError as error:
        return [
            fail(part, f"an object cannot be read: {error.problems[0]}", "Use the program that stored it.")
        ]
    counts: dict[str, int] = {}
    for one in stored:
        for entry in one.objects:
            counts[entry.kind] = counts.get(entry.kind, 0) + 1
    if not counts:
        return [
            warn(
                part,
                "no registry is loaded: scopes, kinds, regions and ServiceEntries stay empty or unsure",
                "`egresslens registry load FOLDER` (docs/how-to/load-the-registry.md)",
            )
        ]
    newest = _newest_change(client, settings)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
    said = f"{listed}; the last change {short(now - newest)} ago"
    if now - newest > _OLD_REGISTRY:
        mend = "Does `egresslens registry watch` (or `load` by cron) run? If nothing changed, all is well."
        return [warn(part, said, mend, objects=counts)]
    return [ok(part, said, objects=counts)]


def _newest_change(client: Client, settings: Settings) -> datetime:
    value: Any = client.query(
        f"SELECT toUnixTimestamp(max(valid_from)) FROM {settings.database}.raw_registry"  # noqa: S608 - names of ours
    ).result_rows[0][0]
    return datetime.fromtimestamp(int(value), timezone.utc)
