"""The embedded broker: the real Apache Kafka (KRaft, one node) on loopback, as a child process.

It is for trying and testing. Its jars come from Maven Central once and are kept in a user cache; its data
lives in the folder it is given. Needs Java 17+, and Maven for the first start.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

KAFKA_VERSION: Final = "4.1.0"
JAVA_NEEDED: Final = 17
MAVEN_NEEDED: Final = (3, 6, 3)

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
DOWNLOAD_TIMEOUT_S: Final = 300.0

_HERE: Final = Path(__file__).parent
# Below the range that the system hands out to outgoing connections: one could take a port before Kafka does.
_PORTS: Final = range(20_000, 32_000)
_HEAP: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")
_QUICK: Final = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# One node: every internal topic has one replica. Few partitions and no rebalance delay start groups fast.
_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # After kill -9 a new start is refused until the old session has ended: not the default 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Compaction of small test topics should not wait the default 15 s for the cleaner's next round.
    "log.cleaner.backoff.ms": "1000",
}


class BrokerError(RuntimeError):
    """The embedded broker cannot be started; the message says what is missing or what Kafka said."""


class Broker:
    """One Kafka node over one folder. `start`, `stop`, `kill` and `restart` block until done.

    The ports are chosen at the first start and kept, so that clients find the broker again after a restart.
    """

    def __init__(self, folder: Path, port: int = 0, properties: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.properties = dict(properties or {})
        self._port = port
        self._controller_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder_lock: IO[str] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; known after the first start."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        return self._running().pid

    @property
    def log(self) -> Path:
        """What Kafka wrote to its standard output and error."""
        return self.folder / "kafka.log"

    def start(self, timeout: float = START_TIMEOUT_S) -> None:
        """Start the broker and wait until it answers.

        Raises:
            BrokerError: Java or Maven is missing or too old, the folder is in use, or Kafka did not come up.
        """
        java, classpath = _java(), jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            self._port = self._port or free_port()
            self._controller_port = self._controller_port or free_port()
            config = self._write_config()
            if not (self.folder / "log" / "meta.properties").exists():
                _format(java, classpath, config)
            self._process = self._spawn(_command(java, classpath, _HEAP, "kafka.Kafka", str(config)))
            self._wait_until_ready(timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stop the broker cleanly (SIGTERM), or by force after `timeout` seconds; no error if it is down."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._unlock()

    def restart(self) -> None:
        """Stop the broker if it runs and start it again on the same folder and ports."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Block until the broker ends by itself or by a signal; its exit code."""
        return self._running().wait()

    def _lock(self) -> None:
        """Own the folder: a second Kafka on it would disturb the first before it found Kafka's own lock."""
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BrokerError(f"another broker uses the folder {self.folder}") from None
        self._folder_lock = lock

    def _unlock(self) -> None:
        if self._folder_lock is not None:
            self._folder_lock.close()
            self._folder_lock = None

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop the broker in order.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process

    def _write_config(self) -> Path:
        values = {
            **_PROPERTIES,
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(self.folder / "log"),
            **self.properties,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return path

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        process = self._running()
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BrokerError(f"Kafka ended at its start (code {process.returncode}):\n{self._why()}")
            if _answers(self._port):
                return
            time.sleep(0.05)
        raise BrokerError(f"Kafka did not answer on {self.bootstrap} within {timeout:.0f} s:\n{self._why()}")

    def _why(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        told = [line for line in lines if " ERROR " in line or " FATAL " in line or "Exception" in line]
        return "\n".join((told or lines)[-10:]) + f"\n(all of it: {self.log})"


@contextlib.contextmanager
def embedded_broker(
    folder: Path, port: int = 0, properties: Mapping[str, str] | None = None
) -> Iterator[Broker]:
    """Run a broker over `folder` for the length of a `with` block; port 0 picks a free one.

    `properties` are added to Kafka's server.properties. Raises BrokerError as `Broker.start` does.
    """
    broker = Broker(folder, port, properties)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def free_port() -> int:
    """A loopback TCP port that nothing listens on just now."""
    # Other processes may look for ports at the same time: a random order keeps them apart.
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BrokerError(f"no free port in {_PORTS.start}-{_PORTS.stop - 1}")


def missing() -> str | None:
    """Why the embedded broker cannot run here, or None: Java, and Maven while the jars are not cached."""
    try:
        _java()
        if not _jar_folder().is_dir():
            _maven()
    except BrokerError as error:
        return str(error)
    return None


def jars() -> Path:
    """The folder of Kafka's jars, fetched from Maven Central if it is not there.

    Safe when several processes call it at once: one fetches, the others wait, and the folder appears whole.

    Raises:
        BrokerError: Maven is missing or too old, or the download failed.
    """
    folder = _jar_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _fetch_jars(folder)
    return folder


def _jar_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "egresslens" / f"kafka-{KAFKA_VERSION}"


def _fetch_jars(folder: Path) -> None:
    maven = _maven()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as work:
        fetched = Path(work) / "jars"
        goal = [
            maven, "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies",
            f"-DoutputDirectory={fetched}", "-DincludeScope=runtime",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                goal, cwd=work, capture_output=True, text=True, check=False, timeout=DOWNLOAD_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise BrokerError(f"Maven did not fetch Kafka within {DOWNLOAD_TIMEOUT_S:.0f} s") from None
        if done.returncode != 0 or not fetched.is_dir():
            said = (done.stdout + done.stderr).strip().splitlines()[:10]
            raise BrokerError("Maven could not fetch Kafka:\n" + "\n".join(said))
        fetched.rename(folder)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    said = _ask(java, "-version") if java else None
    if java is None or said is None:
        raise BrokerError(f"Apache Kafka needs Java {JAVA_NEEDED} or newer, and no `java` was found")
    version = java_version(said)
    if version < JAVA_NEEDED:
        raise BrokerError(f"Apache Kafka needs Java {JAVA_NEEDED} or newer; {java} is {version}")
    return java


def _maven() -> str:
    needed = ".".join(map(str, MAVEN_NEEDED))
    maven = shutil.which("mvn")
    said = _ask(maven, "-v") if maven else None
    if maven is None or said is None:
        raise BrokerError(f"fetching Kafka's jars needs Maven {needed} or newer, and no `mvn` was found")
    version = maven_version(said)
    if version < MAVEN_NEEDED:
        found = ".".join(map(str, version))
        raise BrokerError(f"fetching Kafka's jars needs Maven {needed} or newer; {maven} is {found}")
    return maven


def java_version(said: str) -> int:
    """The feature release in what `java -version` prints (`1.8.0_402` is 8); 0 if there is none."""
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0


def maven_version(said: str) -> tuple[int, ...]:
    """The version in what `mvn -v` prints; empty if there is none."""
    found = re.search(r"Apache Maven (\d+(?:\.\d+)*)", said)
    return tuple(map(int, found[1].split("."))) if found else ()


def _ask(program: str, option: str) -> str | None:
    """What a program prints about its version, or None if it cannot be run."""
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr if done.returncode == 0 else None


def _command(java: str, classpath: Path, flags: tuple[str, ...], main: str, *arguments: str) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}"
    return [java, *flags, "-cp", f"{classpath}/*", logging, main, *arguments]


def _format(java: str, classpath: Path, config: Path) -> None:
    arguments = ("format", "-t", _cluster_id(), "-c", str(config))
    done = subprocess.run(
        _command(java, classpath, _QUICK, "kafka.tools.StorageTool", *arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(f"Kafka could not format {config.parent}:\n{(done.stdout + done.stderr).strip()}")


def _cluster_id() -> str:
    """A new random id as Kafka writes them: 16 bytes in base64, never starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _answers(port: int) -> bool:
    """Whether a broker on this port serves requests (an open port alone comes earlier)."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=2_000, request_timeout_ms=2_000
        )
    except (KafkaError, OSError):
        return False
    try:
        return any(not node["is_fenced"] for node in admin.describe_cluster()["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        admin.close()
