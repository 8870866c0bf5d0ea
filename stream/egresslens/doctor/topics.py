"""Topics: do they exist, do they keep what they must, and may this account use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from egresslens.doctor.finding import Finding, fail, ok, skipped, warn
from egresslens.settings import Settings

PART: Final = "topics"
_CONFIGS: Final = ("cleanup.policy", "retention.ms", "max.message.bytes")
# Kafka's error codes in metadata.
_UNKNOWN_TOPIC: Final = 3
_NOT_ALLOWED: Final = 29
_ABSENT: Final[Mapping[str, Any]] = {"error_code": _UNKNOWN_TOPIC, "partitions": []}
_HOUR_MS: Final = 3_600_000
# An outage of the store that lasts a night must lose nothing.
_SHORTEST_RETENTION_MS: Final = 24 * _HOUR_MS
# What the worker sends at most (worker/topics.py).
_LARGEST: Final = 1_000_000


@dataclass(frozen=True)
class Use:
    """What a topic is for."""

    topic: str
    operations: tuple[str, ...]
    needed: bool
    """False: only a part of the deployment that need not run uses it."""
    input: bool = False


def uses(settings: Settings) -> list[Use]:
    """The topics of a deployment, each once."""
    published = (settings.enriched_topic, settings.windows_topic)
    return [
        *(Use(topic, ("READ",), needed=True, input=True) for topic in settings.access_log_topics),
        Use(settings.replay_topic, ("READ", "WRITE"), needed=True),
        Use(settings.dead_letter_topic, ("WRITE",), needed=True),
        *(Use(topic, ("READ", "WRITE"), needed=settings.publish_enriched) for topic in published),
        Use(settings.alerts_topic, ("WRITE",), needed=False),
    ]


def topics(admin: KafkaAdminClient, settings: Settings) -> list[Finding]:
    """Each topic's existence, rights, leaders, replicas and settings."""
    wanted = uses(settings)
    described = {topic["name"]: topic for topic in admin.describe_topics([use.topic for use in wanted])}
    configs = _configs(admin, [name for name, topic in described.items() if not topic["error_code"]])
    brokers = len(admin.describe_cluster()["brokers"])
    found = list(_absent(wanted, described))
    for use in wanted:
        topic = described.get(use.topic, _ABSENT)
        if topic["error_code"] == _UNKNOWN_TOPIC:
            continue
        wrong = list(troubles(use, topic, configs.get(use.topic, {}), brokers, settings))
        found += wrong or [_fine(use, topic, configs.get(use.topic, {}))]
    return found


def _absent(wanted: Sequence[Use], described: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Topics that do not exist, all in one finding."""
    absent = [use for use in wanted if described.get(use.topic, _ABSENT)["error_code"] == _UNKNOWN_TOPIC]
    needed = [use.topic for use in absent if use.needed]
    if needed:
        yield fail(
            PART,
            f"{', '.join(needed)} {'do' if len(needed) > 1 else 'does'} not exist",
            "`egresslens worker` makes them when it starts (EGRESSLENS_TOPIC_PARTITIONS, "
            "EGRESSLENS_TOPIC_REPLICATION); or mend the names in the settings.",
        )
    for use in absent:
        if not use.needed:
            yield skipped(PART, f"{use.topic} is not there, and nothing that runs needs it")


def _configs(admin: KafkaAdminClient, names: list[str]) -> Mapping[str, Mapping[str, str]]:
    """Topic -> setting -> value; nothing where it may not be seen."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CONFIGS)) for name in names]
    try:
        answered = admin.describe_configs(asked, config_filter="all") if asked else {}
    except KafkaError:
        return {}
    return {
        name: {key: one["value"] for key, one in values.items()}
        for name, values in answered.get("topic", {}).items()
    }


def troubles(
    use: Use, topic: Mapping[str, Any], configs: Mapping[str, str], brokers: int, settings: Settings
) -> Iterator[Finding]:
    """What is wrong with a topic, as Kafka's metadata and its own settings describe it."""
    name = use.topic
    if topic["error_code"] == _NOT_ALLOWED:
        yield fail(
            PART, f"{name} may not be seen by this user", allow(settings, "topic", name, *use.operations)
        )
        return
    if topic["error_code"]:
        yield fail(PART, f"{name}: error {topic['error_code']}", "Look at the brokers' log.")
        return
    allowed = topic.get("authorized_operations")
    lacking = [one for one in use.operations if allowed is not None and one not in allowed]
    if lacking:
        said = " and ".join("read" if one == "READ" else "written" for one in lacking)
        yield fail(PART, f"{name} may not be {said} by this user", allow(settings, "topic", name, *lacking))
    yield from _partition_troubles(name, topic["partitions"], brokers)
    yield from _config_troubles(use, configs)


def _partition_troubles(name: str, partitions: list[Mapping[str, Any]], brokers: int) -> Iterator[Finding]:
    leaderless = sorted(one["partition_index"] for one in partitions if one["leader_id"] < 0)
    if leaderless:
        yield fail(
            PART, f"{name}: partitions {leaderless} have no leader", "Start the brokers that hold them."
        )
    behind = sorted(one["partition_index"] for one in partitions if _is_behind(one))
    if behind:
        yield warn(
            PART,
            f"{name}: partitions {behind} lack replicas in sync",
            "Look after the brokers that are behind.",
        )
    if brokers > 1 and any(len(one["replica_nodes"]) == 1 for one in partitions):
        yield warn(
            PART,
            f"{name} is on one broker only: losing it loses messages",
            "Raise its replicas (kafka-reassign-partitions.sh). New topics: EGRESSLENS_TOPIC_REPLICATION.",
        )


def _is_behind(partition: Mapping[str, Any]) -> bool:
    return partition["leader_id"] >= 0 and len(partition["isr_nodes"]) < len(partition["replica_nodes"])


def _config_troubles(use: Use, configs: Mapping[str, str]) -> Iterator[Finding]:
    change = f"kafka-configs.sh --alter --topic {use.topic} --add-config"
    if "compact" in configs.get("cleanup.policy", ""):
        yield fail(
            PART,
            f"{use.topic} is compacted: messages with equal keys are removed, also unread ones",
            f"{change} cleanup.policy=delete",
        )
    retention = int(configs.get("retention.ms", -1))
    if use.input and 0 <= retention < _SHORTEST_RETENTION_MS:
        yield warn(
            PART,
            f"{use.topic} keeps messages for {retention / _HOUR_MS:.1f} hours: a longer outage of the store "
            "or the workers loses them",
            f"{change} retention.ms=259200000 (3 days), or what the disks allow",
        )
    largest = int(configs.get("max.message.bytes", _LARGEST))
    if not use.input and largest < _LARGEST:
        yield warn(
            PART,
            f"{use.topic} takes messages of {largest:,} bytes at most: larger records stop the worker",
            f"{change} max.message.bytes=1048588",
        )


def _fine(use: Use, topic: Mapping[str, Any], configs: Mapping[str, str]) -> Finding:
    retention = int(configs.get("retention.ms", -1))
    kept = "" if "retention.ms" not in configs else ", kept for ever"
    if retention >= 0:
        kept = f", kept {retention / _HOUR_MS / 24:g} days"
    may = " and ".join("read" if one == "READ" else "written" for one in use.operations)
    count = len(topic["partitions"])
    return ok(
        PART,
        f"{use.topic}: {count} partition{'s' * (count != 1)}{kept}, may be {may}",
        topic=use.topic,
        partitions=count,
        configs=dict(configs),
    )


def allow(settings: Settings, kind: str, name: str, *operations: str) -> str:
    """The command that gives this deployment's user rights."""
    user = settings.kafka_sasl_username or "<the client's principal>"
    wanted = " ".join(f"--operation {one.capitalize()}" for one in dict.fromkeys([*operations, "DESCRIBE"]))
    return f"kafka-acls.sh --add --allow-principal 'User:{user}' {wanted} --{kind} '{name}'"
