"""What would allow the traffic that was seen, and what REGISTRY_ONLY would block."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import polars as pl
from pydantic import Field

from egresslens.advise import Advice, Options, advise, render
from egresslens.advise.render import to_yaml
from egresslens.advise.values import Advised, Evidence
from egresslens.clickhouse.observed import read_observed
from egresslens.console.answers import Context
from egresslens.console.answers.reports import Call
from egresslens.console.models import Count, Model, Time
from egresslens.console.params import Ranged, SpanText, Text
from egresslens.console.problems import Problem
from egresslens.observed import clusters
from egresslens.registry import store
from egresslens.registry.value import Registries
from egresslens.span import span
from egresslens.whatif import Policy, applied, by_verdict, whatif

_LISTED: Final = 1_000
_DEFAULT: Final = Options()
_BACK: Final = timedelta(days=30)
Requests = dict[str, Count]


class LookBack(Ranged):
    """The history that is looked at."""

    since: SpanText | None = Field(None, description="How far to look back from `until`; default 30d.")
    cluster: Text | None = Field(None, description="Only what this cluster's proxies logged.")

    def looked_at(self, now: datetime) -> tuple[datetime, datetime]:
        """Beginning and end; nothing is known of what is to come.

        Raises:
            Problem: the range is empty.
        """
        return self.model_copy(update={"until": min(self.until or now, now)}).moments(now, _BACK)


class AdviceParams(LookBack):
    """How careful to be, as `egresslens advise`."""

    into: Text = Field(_DEFAULT.into, description="Namespace of new ServiceEntries.")
    min_requests: int = Field(
        _DEFAULT.min_requests, ge=1, description="What was seen more rarely is listed apart."
    )
    min_age: SpanText = Field("0m", description="What was first seen less long ago is listed apart.")
    wildcard_hosts: int = Field(
        _DEFAULT.wildcard_hosts, ge=2, description="So many hosts of one domain become a wildcard."
    )
    include_blocked: bool = Field(False, description="Also allow what was blocked.")
    sidecars: bool = Field(True, description="Advise egress scopes.")
    registry_only: bool = Field(False, description="Have new Sidecars block what they do not list.")


class Seen(Model):
    """A destination, and who called it."""

    destination_host: str
    destination_port: int | None
    requests: Count
    sources: list[str]
    first_seen: Time
    last_seen: Time


class AdvisedObject(Model):
    """An object to apply."""

    kind: str
    namespace: str | None
    name: str
    change: Literal["new", "extended"]
    yaml: str
    requests: Count
    seen: list[Seen]
    notes: list[str]


class Apart(Model):
    """Traffic that nothing is advised for."""

    reason: str
    requests: Count
    seen: list[Seen]


class Unused(Model):
    """An entry without traffic."""

    namespace: str | None
    name: str
    hosts: list[str]
    last_seen: Time | None


class WhatIfBoth(Model):
    """Requests by verdict, had the mesh let only registered hosts out."""

    now: Requests = Field(description="With the registry in force.")
    applied: Requests = Field(description="With the advice applied over it.")


class AdviceAnswer(Model):
    """What would allow the traffic."""

    cluster: str | None
    since: Time
    until: Time
    yaml: str = Field(description="All of it, for `kubectl apply`, the evidence as comments.")
    objects: list[AdvisedObject]
    apart: list[Apart]
    unused: list[Unused] | None = Field(
        description="Null where the history is too short to tell, and for a past `until`."
    )
    whatif: WhatIfBoth


class WhatIfParams(LookBack):
    """Which policy, with which registry."""

    namespace: Text | None = Field(None, description="Only callers of this namespace.")
    policy: Policy = Field(
        "registry-only", description="Block unknown hosts everywhere, or as mesh config and Sidecars say."
    )
    advised: bool = Field(False, description="With the advice applied over the registry in force.")
    limit: int = Field(500, ge=1, le=10_000, description="Rows at most.")


class Judged(Call):
    """What would have become of a destination's traffic."""

    label: str
    traffic: str
    requests: Count
    verdict: str
    service_entry: str | None
    reason: str
    first_event: Time
    last_event: Time


class WhatIf(Model):
    """What would have become of the traffic, the most requests first."""

    since: Time
    until: Time
    requests: Requests = Field(description="By verdict.")
    rows: list[Judged]
    more: bool


def advice(context: Context, params: AdviceParams) -> AdviceAnswer:
    """Advise what would allow the traffic that was seen.

    Raises:
        Problem: the traffic is of several clusters, and none is named.
    """
    since, until = params.looked_at(context.now)
    traffic, registries = _history(context, since, until, params.cluster)
    cluster = _cluster(traffic, params.cluster)
    options = Options(
        into=params.into,
        min_requests=params.min_requests,
        min_age=span(params.min_age),
        wildcard_hosts=params.wildcard_hosts,
        include_blocked=params.include_blocked,
        sidecars=params.sidecars,
        registry_only=params.registry_only,
    )
    found = advise(traffic, registries.of(cluster), options, until)
    return AdviceAnswer(
        cluster=cluster,
        since=found.since,
        until=found.until,
        yaml=render(found),
        objects=[_object(one) for one in (*found.entries, *found.sidecars)],
        apart=[
            Apart(reason=one.reason, requests=_requests(one.evidence), seen=_seen(one.evidence))
            for one in found.apart
        ],
        unused=None
        # An entry without traffic until then may have had some since.
        if found.unused is None or until < context.now
        else [
            Unused(
                namespace=one.entry.metadata.namespace,
                name=one.entry.metadata.name,
                hosts=list(one.entry.spec.hosts),
                last_seen=one.last_seen,
            )
            for one in found.unused
        ],
        whatif=WhatIfBoth(
            now=by_verdict(whatif(traffic, registries)),
            applied=by_verdict(whatif(traffic, _with(registries, found))),
        ),
    )


def what_if(context: Context, params: WhatIfParams) -> WhatIf:
    """Look up all that was seen, as if only registered hosts were let out.

    Raises:
        Problem: `advised`, and the traffic is of several clusters, and none is named.
    """
    since, until = params.looked_at(context.now)
    traffic, registries = _history(context, since, until, params.cluster)
    if params.advised:
        cluster = _cluster(traffic, params.cluster)
        registries = _with(registries, advise(traffic, registries.of(cluster), Options(), until))
    if params.namespace is not None:
        traffic = traffic.filter(pl.col("source_namespace") == params.namespace)
    found = whatif(traffic, registries, params.policy)
    rows = found.head(params.limit).select(*Judged.model_fields)
    return WhatIf(
        since=since,
        until=until,
        requests=by_verdict(found),
        rows=[Judged(**row) for row in rows.iter_rows(named=True)],
        more=found.height > params.limit,
    )


def _history(
    context: Context, since: datetime, until: datetime, cluster: str | None
) -> tuple[pl.DataFrame, Registries]:
    settings, reader = context.settings, context.reader
    return read_observed(reader, settings, since, until, cluster), store.read(reader, settings)


def _cluster(traffic: pl.DataFrame, named: str | None) -> str | None:
    seen = clusters(traffic)
    if named is None and len(seen) > 1:
        raise Problem("cluster", f"the traffic is of {len(seen)} clusters", clusters=seen[:_LISTED])
    return named or (seen[0] if seen else None)


def _with(registries: Registries, found: Advice) -> Registries:
    objects = [one.object for one in (*found.entries, *found.sidecars)]
    return applied(registries, objects)


def _object(one: Advised) -> AdvisedObject:
    return AdvisedObject(
        kind=one.object.kind,
        namespace=one.object.metadata.namespace,
        name=one.object.metadata.name,
        change="extended" if one.before else "new",
        yaml=to_yaml(one.object),
        requests=_requests(one.evidence),
        seen=_seen(one.evidence),
        notes=list(one.notes),
    )


def _requests(evidence: tuple[Evidence, ...]) -> int:
    return sum(one.requests for one in evidence)


def _seen(evidence: tuple[Evidence, ...]) -> list[Seen]:
    return [
        Seen(
            destination_host=one.host,
            destination_port=one.port,
            requests=one.requests,
            sources=[name for name, _ in one.sources[:_LISTED]],
            first_seen=one.first,
            last_seen=one.last,
        )
        for one in evidence[:_LISTED]
    ]
