"""Chaos: a deployment under load whose parts are killed, held against the truth all along."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos import check
from chaos.parts import Parts, Sender, Supervised, patiently, running
from chaos.traffic import make
from chaos.truth import Truth, truth
from functional.deployment import COMMAND

_SESSION_S: Final = 6
_RECOVERY_S: Final = 180.0
# How often it is looked whether rows stand beyond the progress, to kill a worker just then.
_LOOK_S: Final = 0.01
_LOOK_FOR_S: Final = 10.0


@dataclass(frozen=True)
class Plan:
    """How much of everything. `kills` are spread at random over workers, store and broker."""

    seed: int
    messages: int
    kills: int
    partitions: int = 4
    workers: int = 2
    snapshots: int = 20
    outage_s: float = 2.0 * _SESSION_S
    outages: int = 1
    joins: int = 2
    freezes: int = 1
    reconciles: int = 3


@dataclass
class Figures:
    """What is printed in the end."""

    kills: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    torn: Counter[str] = field(default_factory=Counter)
    """Kills that left rows beyond the progress, by table."""
    exits: Counter[int] = field(default_factory=Counter)
    reconciled: int = 0
    reconcile_s: float = 0.0
    """At rest, with everything stored."""
    snapshots: int = 0
    seconds: float = 0.0
    drained_s: float = 0.0
    messages: int = 0
    records: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line per figure."""
        lines = [
            f"messages {self.messages:,}, records {self.records:,}",
            f"rejected {self.rejected}",
            f"filtered {self.filtered}",
            f"windows {self.windows}",
            f"kill -9: {sum(self.kills.values())} {dict(self.kills)}",
            f"kills that left rows beyond the progress: {dict(self.torn)}",
            f"workers' exit codes {dict(self.exits)}",
            *(
                f"recovery after {name}: {len(times)} times, {min(times):.1f} to {max(times):.1f} s, "
                f"median {sorted(times)[len(times) // 2]:.1f} s"
                for name, times in sorted(self.recovery.items())
            ),
            f"{self.snapshots} snapshots and {self.reconciled} reconciles under way, all true"
            if not self.problems
            else f"{self.snapshots} snapshots and {self.reconciled} reconciles under way",
            f"reconcile in the end took {self.reconcile_s:.1f} s",
            f"{self.seconds:.0f} s, of which {self.drained_s:.0f} s to read what was left",
            *self.problems,
        ]
        return "\n".join(lines)


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, parts: Parts, sender: Sender, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.parts = parts
        self.sender = sender
        self.say = say
        self.figures = Figures()
        self.chance = random.Random(plan.seed)
        self.snapshots: list[tuple[Path, dict[int, tuple[int, int]]]] = []
        self._done = threading.Event()

    def actions(self) -> list[Callable[[], None]]:
        """What is done, in a random order."""
        plan, chance = self.plan, self.chance
        # Each kind of kill comes at least once, workers more often than the rest.
        kinds = [
            self.kill_worker_when_torn,
            self.kill_store,
            self.kill_broker,
            self.kill_worker,
            self.kill_all_workers,
        ]
        kills = kinds[: plan.kills]
        while len(kills) < plan.kills - plan.outages - plan.workers + 1:
            kills.append(chance.choice([*kinds[:4], self.kill_worker_when_torn, self.kill_worker]))
        actions = [
            *kills,
            *[self.outage] * plan.outages,
            *[self.join_and_leave] * plan.joins,
            *[self.freeze] * plan.freezes,
        ]
        chance.shuffle(actions)
        return actions

    # --- what is done to the parts --------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """At any moment."""
        self._kill_worker()

    def kill_worker_when_torn(self) -> None:
        """Just when events or windows are stored and their progress is not."""
        table = self.chance.choice(["raw_events", "raw_windows_1m"])
        column = "offset" if table == "raw_events" else "last_offset"
        sql = self.parts.named(
            f"SELECT partition FROM (SELECT partition, max({column}) AS newest FROM {{db}}.{table} "
            "WHERE topic = '{topic}' GROUP BY partition) AS stored "
            "LEFT JOIN (SELECT partition, max(last_offset) AS reached FROM {db}.raw_progress "
            "WHERE topic = '{topic}' GROUP BY partition) AS progress USING partition WHERE newest > reached"
        )
        owners = {
            partition: worker
            for worker in self.parts.workers
            for partition in worker.partitions(self.parts.deployment.topic)
        }
        deadline = time.monotonic() + _LOOK_FOR_S
        rows: list[tuple[int]] = []
        with self.parts.client() as client:
            while time.monotonic() < deadline and not rows:
                time.sleep(_LOOK_S)
                rows = client.query(sql).result_rows
        self._kill_worker(owners.get(rows[0][0]) if rows else None)

    def _kill_worker(self, worker: Supervised | None = None) -> None:
        worker = worker or self.chance.choice(self.parts.workers)
        worker.send(signal.SIGKILL)
        self.figures.kills["worker"] += 1
        self._look_for_torn()

    def kill_all_workers(self) -> None:
        """A node with all of them goes."""
        for worker in self.parts.workers:
            worker.send(signal.SIGKILL)
            self.figures.kills["worker"] += 1
        self._look_for_torn()

    def _look_for_torn(self) -> None:
        for table, column in (("raw_events", "offset"), ("raw_windows_1m", "last_offset")):
            beyond = self.parts.query(
                f"SELECT count() FROM (SELECT partition, max({column}) AS newest FROM {{db}}.{table} "
                "WHERE topic = '{topic}' GROUP BY partition) AS stored "
                "LEFT JOIN {db}.progress AS progress ON progress.partition = stored.partition "
                "AND progress.topic = '{topic}' WHERE newest > progress.last_offset"
            )
            self.figures.torn[table] += bool(beyond[0][0])

    def kill_store(self) -> None:
        """The store ends and is started again at once."""
        self.parts.store.kill()
        self.figures.kills["store"] += 1
        self.parts.store.restart()

    def kill_broker(self) -> None:
        """The broker ends and is started again at once."""
        self.parts.broker.kill()
        self.figures.kills["broker"] += 1
        self.parts.broker.start()

    def outage(self) -> None:
        """The store is away for longer than the group waits for a silent member."""
        self.parts.store.kill()
        self.figures.kills["store"] += 1
        time.sleep(self.plan.outage_s)
        self.parts.store.restart()

    def join_and_leave(self) -> None:
        """Another worker takes its share and leaves, in order."""
        worker = self.parts.join("guest")
        worker.worker.wait_ready()
        time.sleep(self.chance.uniform(1, 3))
        self.figures.exits[self.parts.leave(worker)] += 1

    def freeze(self) -> None:
        """A worker stands still for longer than its session and then goes on as if nothing had been."""
        worker = self.chance.choice(self.parts.workers)
        worker.send(signal.SIGSTOP)
        time.sleep(1.5 * _SESSION_S)
        worker.send(signal.SIGCONT)

    # --- the course -----------------------------------------------------------------------------------------

    def go(self, folder: Path) -> None:
        """Do everything, and read all that is left."""
        began = time.monotonic()
        plan, parts = self.plan, self.parts
        for number in range(plan.workers):
            # One keeps its place in the group over a restart, the others are new to it.
            extra = {"EGRESSLENS_KAFKA_GROUP_INSTANCE_ID": "steady"} if number == 0 else {}
            parts.join(f"worker {number}", **extra)
        watcher = threading.Thread(target=self._watch, args=(folder,), daemon=True)
        watcher.start()
        actions = self.actions()
        share = plan.messages // (len(actions) + 1)
        for number, action in enumerate(actions):
            self._act(action, number, share)
        self.sender.release(plan.messages)
        left = time.monotonic()
        self._drain()
        self.figures.drained_s = time.monotonic() - left
        self._done.set()
        watcher.join()
        for worker in list(parts.workers):
            self.figures.exits += worker.codes
            code = parts.leave(worker)
            if code != 0:
                self.figures.problems.append(f"{worker.name} ended with {code}: {worker.log[-2000:]}")
        looked = time.monotonic()
        self.reconcile()
        self.figures.reconcile_s = time.monotonic() - looked
        self.figures.seconds = time.monotonic() - began

    def _act(self, action: Callable[[], None], number: int, share: int) -> None:
        """Do something while there is plenty to read, then measure how long it takes until all goes on."""
        self.sender.release(number * share + 2 * share // 3)
        time.sleep(self.chance.uniform(0.5, 2.5))
        began = time.monotonic()
        action()
        acted = time.monotonic()
        before = patiently(self.parts.progress)
        self.sender.release((number + 1) * share)
        self._wait(lambda: self._moved(before), f"progress after {action.__name__}")
        took = time.monotonic() - acted
        self.figures.recovery[action.__name__].append(took)
        self.say(
            f"{number + 1}: {action.__name__} took {acted - began:.1f} s, recovery {took:.1f} s, "
            f"{self._where()}"
        )

    def _moved(self, before: dict[int, tuple[int, int]]) -> bool:
        """Whether every partition has come further than it was."""
        now = self.parts.progress()
        return len(now) == self.plan.partitions and all(
            last > before.get(partition, (-1, 0))[0] for partition, (last, _) in now.items()
        )

    def _where(self) -> str:
        done = sum(last + 1 for last, _ in patiently(self.parts.progress).values())
        return f"{done:,} of {self.sender.sent:,} messages"

    def _wait(self, condition: Callable[[], bool], what: str, patience: float = _RECOVERY_S) -> None:
        deadline = time.monotonic() + patience
        while not patiently(condition):
            assert self.sender.child.poll() is None, self.sender.log.read_text()[-2000:]
            if time.monotonic() > deadline:
                logs = "\n".join(f"{worker.name}: {worker.log[-1500:]}" for worker in self.parts.workers)
                raise AssertionError(f"no {what} within {patience:.0f} s, {self._where()}\n{logs}")
            time.sleep(0.1)

    def _drain(self) -> None:
        self._wait(lambda: self.sender.sent == self.plan.messages, "end of sending", 600)

        def drained() -> bool:
            now = self.parts.progress()
            return sum(last + 1 for last, _ in now.values()) >= self.plan.messages

        self._wait(drained, "end of reading", 900)

    def _watch(self, folder: Path) -> None:
        """Take snapshots and reconcile at random moments, as far apart as the plan will probably take."""
        chance = random.Random(self.plan.seed + 1)
        looks = ["snapshot"] * self.plan.snapshots + ["reconcile"] * self.plan.reconciles
        chance.shuffle(looks)
        actions = self.plan.kills + self.plan.outages + self.plan.joins + self.plan.freezes
        pause = 6.0 * actions / len(looks)
        for number, look in enumerate(looks):
            if self._done.wait(chance.uniform(0, 2 * pause) if number else 3.0):
                pause = 0.0  # what is left is looked at now, all is at rest
            if look == "reconcile":
                self.reconcile()
                continue
            file = folder / f"snapshot-{number}.parquet"
            progress = patiently(lambda file=file: check.snapshot(self.parts, file), 300)
            self.snapshots.append((file, progress))

    def reconcile(self) -> None:
        """`egresslens reconcile` finds nothing, unless it cannot reach the store or the broker just now."""
        command = [*COMMAND, "reconcile"]
        done = subprocess.run(
            command, env=self.parts.deployment.environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            self.figures.reconciled += 1
        elif done.returncode != 69 or self._done.is_set():
            self.figures.problems.append(
                f"reconcile ended with {done.returncode}: {done.stdout}{done.stderr}"
            )

    def compare(self) -> None:
        """Hold the end and every snapshot against the truth."""
        plan, parts, figures = self.plan, self.parts, self.figures
        placed = check.places(parts.broker.bootstrap, parts.deployment.topic, plan.partitions)
        found = truth(make(plan.seed, plan.messages, plan.partitions, self._now()), placed)
        figures.problems += self._compared(found)
        prefixes = found.prefixes()
        for number, (file, progress) in enumerate(self.snapshots):
            figures.problems += check.snapshot_problems(f"snapshot {number}", file, progress, prefixes)
        for (before, _), (after, _) in zip(self.snapshots, self.snapshots[1:], strict=False):
            figures.problems += check.decreases(after.stem, before, after)
        figures.snapshots = len(self.snapshots)
        figures.messages, figures.records = found.messages.height, found.records.height
        figures.rejected = dict(sorted(found.rejects["reason"].value_counts().iter_rows()))
        figures.filtered = dict(sorted(found.filtered["reason"].value_counts().iter_rows()))

    def _now(self) -> int:
        return int(self.sender.child.args[-1])  # type: ignore[index, arg-type]

    def _compared(self, found: Truth) -> list[str]:
        parts = self.parts
        for tier in ("1m", "1h", "1d"):
            self.figures.windows[tier] = parts.query(f"SELECT count() FROM {{db}}.windows_{tier}")[0][0]
        rolled = parts.query("SELECT count() FROM {db}.raw_rolled")[0][0]
        return [
            *([] if rolled else ["nothing was rolled up, so roll-ups were not tried"]),
            *check.progress_problems(parts, found, self.plan.partitions),
            *check.dead_letter_problems(parts, found),
            *check.events_problems(parts, found),
            *check.windows_problems(parts, found),
            *check.destination_problems(parts, found),
        ]


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> Figures:
    """Run a plan; `figures.problems` is empty if everything is true."""
    traffic = make(plan.seed, plan.messages, plan.partitions)
    with running(
        folder,
        TOPIC_PARTITIONS=str(plan.partitions),
        FLUSH_ROWS="10000",
        ROLL_UP_INTERVAL_S="5",
        KAFKA_SESSION_TIMEOUT_S=str(_SESSION_S),
    ) as parts:
        sender = Sender(parts.broker.bootstrap, parts.deployment.topic, traffic, folder / "sender.log")
        try:
            one = Run(plan, parts, sender, say)
            one.go(folder)
            one.compare()
        finally:
            sender.stop()
    return one.figures
