"""The API: which path gives which answer, and how a request becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from aiohttp import web
from clickhouse_connect.driver.client import Client
from pydantic import BaseModel

from egresslens.console.answers import Context
from egresslens.console.answers.advice import (
    AdviceAnswer,
    AdviceParams,
    WhatIf,
    WhatIfParams,
    advice,
    what_if,
)
from egresslens.console.answers.alerts import Alerts, AlertsParams, alerts
from egresslens.console.answers.edge import EdgeDetail, EdgeParams, edge
from egresslens.console.answers.events import Events, EventsParams, events
from egresslens.console.answers.graph import Graph, GraphParams, graph
from egresslens.console.answers.meta import Meta, meta
from egresslens.console.answers.pipeline import Pipeline, pipeline
from egresslens.console.answers.reports import ANSWERS, ReportParams, report
from egresslens.console.answers.saved import Queries, Result, ResultParams, queries, result
from egresslens.console.answers.timeline import Timeline, timeline
from egresslens.console.params import Labelled, Nothing, Ranged, read
from egresslens.console.pool import Readers
from egresslens.console.problems import Problem
from egresslens.console.recent import Recent
from egresslens.registry.problems import RegistryError
from egresslens.report import REPORTS
from egresslens.settings import Settings

BASE: Final = "/api/v1"
Answer = Callable[..., BaseModel]


@dataclass(frozen=True)
class Endpoint:
    """A path under BASE, and what it answers. `{name}` in the path is given to the answer by name."""

    path: str
    params: type[BaseModel]
    gives: type[BaseModel]
    answer: Answer
    about: str


ENDPOINTS: Final = (
    Endpoint("/meta", Ranged, Meta, meta, "About this console, and what the filters may be set to."),
    Endpoint(
        "/graph", GraphParams, Graph, graph, "Who called what, as edges with a source and a destination."
    ),
    Endpoint("/edge", EdgeParams, EdgeDetail, edge, "All about one edge of the graph."),
    Endpoint("/timeline", Labelled, Timeline, timeline, "Traffic over time, by label."),
    *(
        Endpoint(f"/reports/{name}", ReportParams, ANSWERS[name], report(name), f"{one.title}.")
        for name, one in REPORTS.items()
    ),
    Endpoint("/alerts", AlertsParams, Alerts, alerts, "Incidents that the alerts found."),
    Endpoint(
        "/advice", AdviceParams, AdviceAnswer, advice, "What would allow the traffic that was seen, as YAML."
    ),
    Endpoint("/whatif", WhatIfParams, WhatIf, what_if, "What REGISTRY_ONLY would have blocked."),
    Endpoint("/events", EventsParams, Events, events, "Single records, in pages; and what came in since."),
    Endpoint(
        "/pipeline", Nothing, Pipeline, pipeline, "How far the pipeline is, and what it could not read."
    ),
    Endpoint("/saved", Nothing, Queries, queries, "The example queries."),
    Endpoint("/saved/{name}", ResultParams, Result, result, "The result of an example query."),
)


class Api:
    """The endpoints over one store."""

    def __init__(self, settings: Settings, readers: Readers, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._readers = readers
        self._now = now
        self._recent = Recent(settings)

    async def give(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        """Answer a request.

        Raises:
            Problem: it cannot be answered.
            ClickHouseError: the store cannot be asked, or refuses.
        """
        given = {name: request.query.getall(name) for name in request.query}
        params = read(endpoint.params, given)
        user: str | None = request.get("user")
        body = await self._readers.ask(partial(self._make, endpoint, params, request.match_info, user))
        response = web.Response(body=body, content_type="application/json", charset="utf-8")
        response.enable_compression()
        return response

    def _make(
        self,
        endpoint: Endpoint,
        params: BaseModel,
        path: Mapping[str, str],
        user: str | None,
        reader: Client,
    ) -> bytes:
        """In a thread: ask, and write it as JSON."""
        context = Context(self._settings, reader, self._now(), user, self._recent)
        try:
            return endpoint.answer(context, params, **path).model_dump_json().encode()
        except RegistryError as error:
            raise Problem(
                "internal",
                "the stored registry cannot be read: it was written by a newer program",
                hint="Run the console of the same version as the one that loaded the registry.",
            ) from error
