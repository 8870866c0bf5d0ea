"""The jobs that are compared, each run as a process of its own on a filled topic."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from parts import (
    HERE,
    ROOT,
    STORED,
    Filled,
    Parts,
    Timing,
    check,
    cpu_seconds,
    egresslens,
    inherited,
    ready,
    until,
)

from egresslens.kafka.broker import free_port
from egresslens.kafka.topics import Topic

# Tables that a whole job fills, and what counts a label's records in them.
STORED_AS = (("raw_events", "count()"), ("raw_windows_1m", "sum(requests)"))


@contextmanager
def schema(parts: Parts, environment: dict[str, str], tree: Path = ROOT) -> Iterator[Client]:
    """Tables of this environment's own, and a connection; afterwards they and its topics are gone."""
    subprocess.run(
        egresslens("migrate", tree=tree), env=inherited() | environment, check=True, capture_output=True
    )
    client = parts.client()
    try:
        yield client
    finally:
        client.command(f"DROP DATABASE {environment['EGRESSLENS_DATABASE']}")
        client.close()
        parts.drop_topics(
            [
                environment[f"EGRESSLENS_{name}_TOPIC"]
                for name in ("ENRICHED", "WINDOWS", "REPLAY", "DEAD_LETTER")
            ]
        )


@dataclass(frozen=True)
class Worker:
    """A worker's process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ready(self) -> bool:
        """Whether records go through it; raises what it said last if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text()[-3000:])
        return ready(self.port)

    def stop(self) -> None:
        """End it; raises what it said last if it did not end well."""
        self.process.terminate()
        if self.process.wait(30) != 0:
            raise RuntimeError(self.log.read_text()[-3000:])


@contextmanager
def workers(
    parts: Parts, environment: dict[str, str], count: int = 1, tree: Path = ROOT
) -> Iterator[list[Worker]]:
    """Real `egresslens worker`s of one group, all ready; afterwards they are stopped."""
    started = [_start(parts, environment, tree) for _ in range(count)]
    try:
        until(lambda: all(one.ready() for one in started), "the workers are ready", every=0.01)
        yield started
        for one in started:
            one.stop()
    finally:
        for one in started:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()


def _start(parts: Parts, environment: dict[str, str], tree: Path) -> Worker:
    port = free_port()
    log = Path(tempfile.mkstemp(prefix="worker-", suffix=".log", dir=parts.folder)[1])
    with log.open("wb") as out:
        process = subprocess.Popen(
            egresslens("worker", tree=tree),
            env=inherited() | environment | {"EGRESSLENS_WEB_PORT": str(port)},
            stdout=out,
            stderr=out,
        )
    return Worker(process, port, log)


def stored(client: Client, environment: dict[str, str]) -> int:
    """Messages of the topic that `progress` accounts for: it is written after everything else of a unit."""
    sql = (
        f"SELECT sum(messages) FROM {environment['EGRESSLENS_DATABASE']}.progress "
        f"WHERE topic = '{environment['EGRESSLENS_ACCESS_LOG_TOPICS']}'"
    )
    return int(client.query(sql).first_row[0] or 0)


def run_egresslens(
    parts: Parts,
    topic: Filled,
    *,
    tree: Path = ROOT,
    settings: dict[str, str] | None = None,
    hashed: bool = False,
) -> Timing:
    """The whole job by a real `egresslens worker`: until `progress` accounts for every message.

    With `hashed` the timing holds the `digest` of what was stored.
    """
    environment = parts.environment(ACCESS_LOG_TOPICS=topic.name, **(settings or {}))
    with schema(parts, environment, tree) as client:
        with workers(parts, environment, tree=tree) as started:
            timing = work_off(parts, topic, client, environment, started)
        correct(client, environment, topic)
        return (
            replace(timing, stored=digest(client, environment["EGRESSLENS_DATABASE"])) if hashed else timing
        )


def work_off(
    parts: Parts, topic: Filled, client: Client, environment: dict[str, str], started: list[Worker]
) -> Timing:
    """What these workers need from now on until all of the topic is stored."""
    pids = [*(one.process.pid for one in started), parts.broker.pid, parts.store.pid]
    at, cpus = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    before = done = stored(client, environment)
    if before >= topic.total:
        raise RuntimeError("all was done before the workers were ready: take more --records")
    while done < topic.total:
        for one in started:
            one.ready()
        # Ask seldom while there is much to do: each question costs the machine some milliseconds.
        time.sleep(0.5 if done < 0.7 * topic.total else 0.05)
        done = stored(client, environment)
    seconds = time.monotonic() - at
    spent = [cpu_seconds(pid) - one for pid, one in zip(pids, cpus, strict=True)]
    return Timing(topic.total - before, seconds, sum(spent[:-2]), *spent[-2:])


def digest(client: Client, database: str) -> dict[str, int]:
    """Rows of each table that a whole job fills, by its name and a hash over all columns of all of them.

    Each job has a stream epoch of its own.
    """
    found = {}
    for table, _ in STORED_AS:
        rows = f"(SELECT * EXCEPT stream_epoch FROM {database}.{table} FINAL)"
        count, summed = client.query(f"SELECT count(), sum(cityHash64(tuple(*))) FROM {rows}").first_row
        found[f"{table} {summed:x}"] = count
    return found


def correct(client: Client, environment: dict[str, str], topic: Filled) -> None:
    """Hold the views against the truth."""
    for what, measure in (("events", "count()"), ("windows_1m", "sum(requests)")):
        sql = f"SELECT label, {measure} FROM {environment['EGRESSLENS_DATABASE']}.{what} GROUP BY label"
        rows = client.query(sql).result_rows
        check(dict(sorted(rows)), dict(sorted(topic.truth().items())), f"egresslens, {what}")


def run_peer(
    parts: Parts,
    topic: Filled,
    command: list[str],
    name: str,
    per_partition: int,
    *,
    sink: bool = True,
    hashed: bool = False,
    patience: float = 300.0,
    **more: object,
) -> Timing:
    """A peer's program: it reads so many records of each partition and prints what it cost as JSON.

    The program gets its orders and `more` as one JSON argument, and answers on its last line of output with
    `seconds` (first record to all stored), `cpu_s` and `counts` (requests by label, summed over its windows).
    With `sink` it writes events and windows into tables as Egresslens' own, and both are held against the
    truth as well; with `hashed` the timing holds their `digest`.
    """
    unique = f"{name.replace('-', '_')}_{time.time_ns() % 10**9}"
    output = f"enriched-{unique}"
    parts.make_topics(Topic(output, len(topic.labels)))
    host, port = parts.store.url.removeprefix("http://").split(":")
    environment = parts.environment(ACCESS_LOG_TOPICS=topic.name, DATABASE=unique)
    orders = {
        "brokers": parts.broker.bootstrap,
        "topic": topic.name,
        "group": unique,
        "partitions": len(topic.labels),
        "per_partition": per_partition,
        "limits": [min(per_partition, len(one)) for one in topic.labels],
        "output": output,
        "host": host,
        "port": int(port),
        "user": parts.store.writer[0],
        "password": parts.store.writer[1],
        "database": unique,
        "folder": tempfile.mkdtemp(prefix=f"{name}-", dir=parts.folder),
        **more,
    }
    pids = (parts.broker.pid, parts.store.pid)
    try:
        with schema(parts, environment) as client:
            before = [cpu_seconds(pid) for pid in pids]
            said = _answer(name, [*command, json.dumps(orders)], patience)
            aside = [cpu_seconds(pid) - one for pid, one in zip(pids, before, strict=True)]
            truth = topic.truth(per_partition)
            if said["counts"]:
                check({label: said["counts"].get(label, 0) for label in STORED}, truth, f"{name}, windows")
            for table, measure in STORED_AS if sink else ():
                sql = f"SELECT label, {measure} FROM {unique}.{table} FINAL GROUP BY label"
                rows = dict(client.query(sql).result_rows)
                check({label: rows.get(label, 0) for label in STORED}, truth, f"{name}, {table}")
            stored_as = digest(client, unique) if hashed else {}
        return Timing(sum(orders["limits"]), said["seconds"], said["cpu_s"], *aside, stored_as)
    finally:
        parts.drop_topics(own_topics(parts, unique))


def _answer(name: str, command: list[str], patience: float) -> dict[str, Any]:
    """What a program says on its last line of output."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=patience, env=inherited(), check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def own_topics(parts: Parts, unique: str) -> list[str]:
    """The topics a peer made: its output, and what its library keeps under the group's name."""
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415 - slow to import

    admin = KafkaAdminClient(bootstrap_servers=parts.broker.bootstrap)
    names = [str(name) for name in admin.list_topics() if unique in name]
    admin.close()
    return names


def python_peer(name: str, python: str | Path = sys.executable) -> list[str]:
    """The command line of a peer written in Python."""
    return [str(python), str(HERE / "peers" / f"{name}_job.py")]


def bench_python() -> Path:
    """The Python of an environment of the bench's own, made when it is missing or out of date."""
    folder, wanted = ROOT / ".cache" / "bench-venv", HERE / "requirements.txt"
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True)
        stamp.write_text(wanted.read_text())
    return python


# Flink reads and copies what Java 17 otherwise hides from libraries.
_OPEN = [
    f"--add-opens=java.base/java.{name}=ALL-UNNAMED"
    for name in ("lang", "util", "time", "nio", "net", "util.concurrent", "util.concurrent.atomic")
]


def java_peer(name: str) -> list[str]:
    """The command line of a peer written in Java, built when it is missing or older than its source."""
    project, built = HERE / "peers" / "jvm", ROOT / ".cache" / "bench-jvm"
    sources = [project / "pom.xml", *project.glob("src/main/java/bench/*.java")]
    jar = built / "jvm-1.jar"
    if not jar.exists() or jar.stat().st_mtime < max(one.stat().st_mtime for one in sources):
        subprocess.run(["mvn", "-q", "-B", "package"], cwd=project, check=True)
    return ["java", "-Xmx2g", *_OPEN, "-cp", f"{jar}:{built / 'lib'}/*", f"bench.{name}"]
