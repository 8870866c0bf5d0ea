"""The reasons behind one record, in words: the same code that labels, asked to account for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from egresslens.enrich import ORIGIN, enrich
from egresslens.label import classify_cluster
from egresslens.record import IDENTITY
from egresslens.rules import Rules

_KINDS: Final[Mapping[str, str]] = {
    "passthrough": "Istio's cluster for hosts that no ServiceEntry knows, which ALLOW_ANY lets out",
    "blackhole": "Istio's cluster for what REGISTRY_ONLY blocks",
    "outbound": "the named cluster of a known host (a Service or a ServiceEntry)",
    "inbound": "the receiving side of a call",
    "waypoint": "a waypoint's side of a call into the mesh",
    "inbound_passthrough": "a call to a port that no Service exposes",
    "internal": "one of Envoy's or Istio's own clusters, no workload's traffic",
    "custom": "no form of Istio's (an outboundClusterStatName pattern, or another proxy's name)",
    "none": "absent: no upstream was chosen",
}
_EVIDENCE: Final[Mapping[str, str]] = {
    "cluster": "the cluster's name says so",
    "route": "the route's name says so (Istio names its catch-all routes block_all and allow_any)",
    "flags": "a TCP connection with UH, no cluster and not one byte moved: how proxies up to 1.9 log a block",
    "direction": "ztunnel says the direction, and names the service where it knows one",
    "none": "neither cluster, route nor flags say what happened (a 502 alone proves nothing)",
}
_SOURCES: Final[Mapping[str, str]] = {
    "registry": "the host of the named cluster",
    "authority": "the Host the application asked for",
    "sni": "the server name of the TLS handshake",
    "address": "no name is known, so the address stands in",
}


@dataclass(frozen=True)
class Step:
    """One step: what it is about, and what was found."""

    about: str
    said: str


@dataclass(frozen=True)
class Story:
    """One record of the message, or one part that is none; `record` is None then."""

    steps: tuple[Step, ...]
    record: dict[str, Any] | None


@dataclass(frozen=True)
class Explanation:
    """Everything that became of a message."""

    stories: tuple[Story, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "records": [
                {
                    "steps": [{"about": step.about, "said": step.said} for step in story.steps],
                    "record": story.record,
                }
                for story in self.stories
            ]
        }


def explain(message: bytes, rules: Rules) -> Explanation:
    """Account for one message: what it was read as, what labelled each record and why."""
    origins = pl.DataFrame({name: [None] for name in ORIGIN}, schema=ORIGIN)
    found = enrich([message], origins, rules, keep_all=True)
    hidden = ["message", *(name for name in IDENTITY if name != "seq")]
    records = found.records.drop(hidden)
    times = [name for name, dtype in records.schema.items() if isinstance(dtype, pl.Datetime)]
    shown = records.with_columns(pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ") for name in times)
    stories = [Story(tuple(_record(record, rules)), record) for record in shown.to_dicts()]
    for part in found.rejects.to_dicts():
        field = f" in the field {part['field']}" if part["field"] else ""
        stories.append(_no_record("rejected", f"{part['reason']}{field}: it goes to the dead-letter topic"))
    stories += [
        _no_record("filtered", f"{part['reason']}: counted, not stored") for part in found.filtered.to_dicts()
    ]
    return Explanation(tuple(stories))


def _no_record(about: str, said: str) -> Story:
    return Story((Step(about, said),), None)


def _record(record: dict[str, Any], rules: Rules) -> list[Step]:
    cluster = record["upstream_cluster"]
    kind = classify_cluster(cluster)
    damage = f", forgiving: {record['damage']}" if record["damage"] else ""
    steps = [Step("read as", f"{record['format']}{damage}"), Step("source", _source(record))]
    if record["method"] or record["protocol"]:
        request = " ".join(str(record[name] or "-") for name in ("method", "path", "protocol"))
        steps.append(Step("request", f"{request}, answered {record['response_code']}"))
    else:
        steps.append(Step("connection", "no HTTP method: TCP or TLS passed through"))
    steps.append(Step("cluster", f"{cluster or '-'}: {_KINDS[kind.kind]}"))
    if record["route_name"]:
        steps.append(Step("route", record["route_name"]))
    if record["response_flags"]:
        steps.append(Step("flags", ",".join(record["response_flags"])))
    why = _EVIDENCE[record["label_evidence"]]
    steps.append(Step("label", f"{record['label']} ({record['confidence']} confidence): {why}"))
    steps.append(Step("destination", _destination(record)))
    if record["mismatch"]:
        asked = record["authority"] or record["requested_server_name"]
        steps.append(Step("mismatch", f"the cluster names {kind.host}, but {asked} was asked for"))
    steps.append(Step("hop", f"logged by a {record['hop']}"))
    steps.append(Step("stored", "yes" if record["label"] in rules.keep else "no, counted as filtered"))
    return steps


def _source(record: dict[str, Any]) -> str:
    if record["source_workload"]:
        place = [record["source_cluster"], record["source_namespace"], record["source_workload"]]
        return "/".join(part for part in place if part) + " (named by the envelope or the line)"
    if record["source_ip"]:
        return f"{record['source_ip']} (downstream_remote_address; no envelope names the workload)"
    return "unknown: neither an envelope nor an address"


def _destination(record: dict[str, Any]) -> str:
    if not record["destination_host"]:
        return "unknown: neither a name nor an address"
    port = f":{record['destination_port']}" if record["destination_port"] else ""
    at = f", at {record['destination_ip']}" if record["destination_ip"] else ""
    return f"{record['destination_host']}{port}: {_SOURCES[record['destination_host_source']]}{at}"
