"""The envelope: what is known of a line's pod, in the shape of Fluent Bit's Kubernetes filter.

    {"time": "2026-01-02T03:04:05.123Z", "stream": "stdout", "log": "<the line>",
     "cluster": "<cluster>",
     "kubernetes": {"pod_name": …, "namespace_name": …, "host": "<node>", "container_name": …,
                    "labels": {"service.istio.io/canonical-name": "<workload>"},
                    "node_labels": {"topology.kubernetes.io/region": …, "topology.kubernetes.io/zone": …}}}

`cluster` and `node_labels` are additions: Fluent Bit knows neither, Vector has `node_labels` in this place.
What is not known is left out. With nothing known there is no envelope: the line is the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson


@dataclass(frozen=True)
class Metadata:
    """Who writes the files that are shipped. None: not known."""

    pod: str | None = None
    namespace: str | None = None
    workload: str | None = None
    cluster: str | None = None
    region: str | None = None
    zone: str | None = None
    node: str | None = None
    container: str | None = None

    @property
    def known(self) -> bool:
        """Whether anything is known at all."""
        return any(value is not None for value in self.__dict__.values())


def envelope(line: bytes, metadata: Metadata, read_at: datetime) -> bytes:
    """One Kafka message for one line (without its newline).

    `read_at` (with a time zone) becomes `time`. Bytes that are no UTF-8 become U+FFFD inside an envelope,
    since JSON cannot hold them; without metadata the line's bytes are the message, unchanged.
    """
    if not metadata.known:
        return line
    return orjson.dumps(
        {
            "time": read_at,
            "stream": "stdout",
            "log": line.decode("utf-8", "replace"),
            **_known({"cluster": metadata.cluster}),
            "kubernetes": _known(
                {
                    "pod_name": metadata.pod,
                    "namespace_name": metadata.namespace,
                    "host": metadata.node,
                    "container_name": metadata.container,
                    "labels": _known({"service.istio.io/canonical-name": metadata.workload}),
                    "node_labels": _known(
                        {
                            "topology.kubernetes.io/region": metadata.region,
                            "topology.kubernetes.io/zone": metadata.zone,
                        }
                    ),
                }
            ),
        },
        option=orjson.OPT_UTC_Z,
    )


def message_key(path: str, metadata: Metadata) -> bytes:
    """The Kafka key: one pod's (or one file's) lines go to one partition and stay in order."""
    if metadata.pod is None:
        return path.encode("utf-8", "surrogateescape")
    return f"{metadata.namespace or ''}/{metadata.pod}".encode()


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
