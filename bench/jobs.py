"""The jobs that are compared, each run as a process of its own on a filled topic."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def run_egresslens(
    parts: Parts, topic: Filled, *, tree: Path = ROOT, settings: dict[str, str] | None = None
) -> Timing:
    """The whole job by a real `egresslens worker`: until `progress` accounts for every message."""
    port = free_port()
    environment = parts.environment(ACCESS_LOG_TOPICS=topic.name, WEB_PORT=str(port), **(settings or {}))
    database = environment["EGRESSLENS_DATABASE"]
    subprocess.run(
        egresslens("migrate", tree=tree), env=inherited() | environment, check=True, capture_output=True
    )
    log = Path(tempfile.mkstemp(prefix="worker-", suffix=".log", dir=parts.folder)[1])
    with log.open("wb") as out:
        worker = subprocess.Popen(
            egresslens("worker", tree=tree), env=inherited() | environment, stdout=out, stderr=out
        )
    client = parts.client()
    try:
        until(lambda: ready(port) or worker.poll() is not None, "the worker is ready", every=0.01)
        if worker.poll() is not None:
            raise RuntimeError(log.read_text()[-3000:])
        pids = (worker.pid, parts.broker.pid, parts.store.pid)
        started, cpus = time.monotonic(), [cpu_seconds(pid) for pid in pids]

        def stored() -> int:
            if worker.poll() is not None:
                raise RuntimeError(log.read_text()[-3000:])
            return int(client.query(f"SELECT sum(messages) FROM {database}.progress").first_row[0] or 0)

        while (done := stored()) < topic.total:
            # Ask seldom while there is much to do: each question costs the machine some milliseconds.
            time.sleep(0.5 if done < 0.7 * topic.total else 0.05)
        seconds = time.monotonic() - started
        spent = [cpu_seconds(pid) - before for pid, before in zip(pids, cpus, strict=True)]
        timing = Timing(topic.total, seconds, *spent)
        worker.terminate()
        if worker.wait(30) != 0:
            raise RuntimeError(log.read_text()[-3000:])
        for what in ("events", "windows_1m"):
            measure = "count()" if what == "events" else "sum(requests)"
            rows = client.query(f"SELECT label, {measure} FROM {database}.{what} GROUP BY label").result_rows
            check(dict(sorted(rows)), dict(sorted(topic.truth().items())), f"egresslens, {what}")
        return timing
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        client.command(f"DROP DATABASE {database}")
        client.close()
        parts.drop_topics(
            [
                environment[f"EGRESSLENS_{name}_TOPIC"]
                for name in ("ENRICHED", "WINDOWS", "REPLAY", "DEAD_LETTER")
            ]
        )


def run_peer(
    parts: Parts,
    topic: Filled,
    command: list[str],
    name: str,
    per_partition: int,
    *,
    sink: bool = True,
    patience: float = 240.0,
    **more: object,
) -> Timing:
    """A peer's program: it reads so many records of each partition and prints what it cost as JSON.

    The program gets its orders and `more` as one JSON argument, and answers on its last line of output with
    `seconds` (first record to all stored), `cpu_s` and `counts` (requests by label, summed over its windows).
    """
    from egresslens.kafka.topics import Topic  # noqa: PLC0415

    unique = f"{name.replace('-', '_')}_{time.time_ns() % 10**9}"
    output = f"enriched-{unique}"
    if sink:
        parts.make_topics(Topic(output, len(topic.labels)))
    host, port = parts.store.url.removeprefix("http://").split(":")
    client = parts.client()
    client.command(f"CREATE DATABASE {unique}")
    for statement in (HERE / "peers" / "tables.sql").read_text().split(";"):
        if statement.strip():
            client.command(statement.replace("{db}", unique))
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
    try:
        done = subprocess.run(
            [*command, json.dumps(orders)],
            capture_output=True,
            text=True,
            timeout=patience,
            env=inherited(),
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        said = json.loads(done.stdout.strip().splitlines()[-1])
        truth = topic.truth(per_partition)
        check({label: said["counts"].get(label, 0) for label in STORED}, truth, f"{name}, windows")
        if sink:
            rows = client.query(f"SELECT label, count() FROM {unique}.events GROUP BY label").result_rows
            check({label: dict(rows).get(label, 0) for label in STORED}, truth, f"{name}, events")
            rows = client.query(
                f"SELECT label, sum(requests) FROM {unique}.windows FINAL GROUP BY label"
            ).result_rows
            check({label: dict(rows).get(label, 0) for label in STORED}, truth, f"{name}, stored windows")
        return Timing(sum(orders["limits"]), said["seconds"], said["cpu_s"])
    finally:
        client.command(f"DROP DATABASE {unique}")
        client.close()
        if sink:
            parts.drop_topics([output])


def python_peer(name: str, python: str = sys.executable) -> list[str]:
    """The command line of a peer written in Python."""
    return [python, str(HERE / "peers" / f"{name}_job.py")]
