"""Errors as problem details (RFC 9457): what went wrong, and what to do next."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import ConfigDict, Field

from egresslens.clickhouse.errors import Reason, sort
from egresslens.console.models import Model

MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """A kind of problem: its HTTP status, its title, what it means and what to do about it."""

    status: int
    title: str
    about: str
    hint: str


KINDS: Final[dict[str, Kind]] = {
    "parameter": Kind(
        400, "A parameter cannot be used", "A parameter is unknown, repeated, missing or out of bounds.",
        "See the parameters of this path in /api/v1/openapi.json.",
    ),
    "unauthorized": Kind(
        401, "Who are you?", "The console wants to know who asks.",
        "Log in, or send HTTP basic authentication.",
    ),
    "forbidden": Kind(
        403, "Not from there", "The request came by a name, from a page or past a proxy that is not trusted.",
        "Open the console by its own address; names of it are set with EGRESSLENS_CONSOLE_NAMES.",
    ),
    "not-found": Kind(
        404, "There is no such thing", "Nothing is stored, or served, under this name.",
        "See the paths in /api/v1/openapi.json; an edge must have traffic in the range.",
    ),
    "method": Kind(
        405, "Nothing can be changed here", "The API only answers questions.", "Ask with GET.",
    ),
    "cluster": Kind(
        409, "Several clusters", "Advice is for one cluster, and the traffic is of several.",
        "Name one with the parameter `cluster`.",
    ),
    "too-much": Kind(
        422, "Too much at once", "The answer would pass the limit on memory or rows of one query.",
        "Shorten the range, or narrow it by namespace, workload, host or cluster.",
    ),
    "too-many-requests": Kind(
        429, "Too many failed logins", "From this address, too many passwords were wrong.",
        "Wait as long as Retry-After says.",
    ),
    "internal": Kind(
        500, "The console failed", "A fault of the console itself.",
        "Its log says what happened; please report it.",
    ),
    "busy": Kind(
        503, "Too many questions at once", "All places for queries are taken.",
        "Ask again in some seconds; EGRESSLENS_CONSOLE_QUERIES is how many run at once.",
    ),
    "store-unreachable": Kind(
        503, "ClickHouse cannot be asked", "ClickHouse does not answer, or not to the reader's account.",
        "Check EGRESSLENS_CLICKHOUSE_URL and the reader's user and password, and that ClickHouse runs.",
    ),
    "store-not-migrated": Kind(
        503, "ClickHouse lacks the tables", "The views are missing, or older than this program.",
        "Run `egresslens migrate`.",
    ),
    "slow": Kind(
        504, "The answer took too long", "The query passed its time limit.",
        "Shorten the range or narrow it; EGRESSLENS_CONSOLE_QUERY_TIMEOUT_S is the limit.",
    ),
}  # fmt: skip


class ProblemDetails(Model):
    """RFC 9457, with what to do next. Here, what is absent is left out."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: str = Field(description="Leads to what this kind of problem means.")
    title: str
    status: int
    detail: str = Field(description="What happened.")
    hint: str = Field(description="What to do next.")
    parameter: str | None = Field(None, description="Which parameter it was.")
    clusters: list[str] | None = Field(None, description="Which clusters there are.")
    login: str | None = Field(None, description="Where to log in, beside the page.")


class Problem(Exception):  # noqa: N818 - it is what RFC 9457 calls it
    """An answer that is none. `kind` is one of KINDS."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        known = KINDS[kind]
        self.headers = headers or {}
        self.details = ProblemDetails(
            type=f"/api/v1/problems/{kind}",
            title=known.title,
            status=known.status,
            detail=detail,
            hint=hint or known.hint,
            **more,
        )


# ClickHouse's errors that the question, the load or the operator is the cause of.
_OF_REASON: Final[dict[Reason, str]] = {
    Reason.UNREACHABLE: "store-unreachable",
    Reason.ACCESS: "store-unreachable",
    Reason.REPLICATION: "store-unreachable",
    Reason.SLOW: "slow",
    Reason.BUSY: "busy",
    Reason.MEMORY: "too-much",
    Reason.TOO_LARGE: "too-much",
    Reason.SCHEMA: "store-not-migrated",
}


def of_store(error: ClickHouseError) -> Problem | None:
    """The problem that an error of ClickHouse is; None if it is a fault of this program.

    ClickHouse's own text stays out of it: it holds the statement, and with it values that somebody typed.
    """
    trouble = sort(error)
    kind = _OF_REASON.get(trouble.reason) if trouble else None
    if trouble is None or kind is None:
        return None
    name = f" ({trouble.code} {trouble.name})" if trouble.code is not None and trouble.name else ""
    retry = {"Retry-After": "5"} if KINDS[kind].status == 503 else {}
    return Problem(kind, f"{KINDS[kind].about}{name}", headers=retry)
