"""The OpenAPI 3.1 document, from the models that validate parameters and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from egresslens import __version__
from egresslens.console import problems
from egresslens.console.api import BASE, ENDPOINTS, Endpoint
from egresslens.console.auth import COOKIE
from egresslens.console.params import is_several
from egresslens.console.problems import KINDS, ProblemDetails

_REFERENCE: Final = "#/components/schemas/{model}"
_ABOUT: Final = """\
What leaves the mesh, from which workload, to where, and was it allowed. Every request is a GET and changes
nothing.

Answers cover whole windows of a minute, an hour or a day, by the range's length, and say so in `range`.
Absent is null. `bytes_received` is what the workload sent out, as its proxy received it; `bytes_sent` is what
came back. Answers hold the SQL that gave them. Lists are bounded: `more`, `left_off` and `cut` say when there
is more.

Each query is bounded in time, memory and rows (settings EGRESSLENS_CONSOLE_QUERY_…), and so is how many run
at once. Errors are problem details (RFC 9457) that say what to do next."""
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
# Of an answer; authentication and the place a request comes from are checked before every one.
_PROBLEMS: Final = (
    "parameter",
    "unauthorized",
    "forbidden",
    "too-much",
    "too-many-requests",
    "internal",
    "busy",
    "slow",
)


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The document, as plain values."""
    answers = dict.fromkeys(endpoint.gives for endpoint in ENDPOINTS)
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in answers]
    wanted.append((ProblemDetails, "serialization"))
    references, definitions = models_json_schema(wanted, ref_template=_REFERENCE)
    schemas = {model: reference for (model, _), reference in references.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Egresslens console", "version": __version__, "description": _ABOUT},
        "servers": [{"url": BASE}],
        "security": [{}, {"basic": []}, {"session": []}],
        "paths": {
            endpoint.path: {"get": _operation(endpoint, schemas[endpoint.gives], schemas[ProblemDetails])}
            for endpoint in ENDPOINTS
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "With a password file."},
                "session": {
                    "type": "apiKey", "in": "cookie", "name": COOKIE,
                    "description": "Of the login page, with a password file.",
                },
            },
        },
    }  # fmt: skip


def _operation(endpoint: Endpoint, gives: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    names = _PATH_PARAMETER.findall(endpoint.path)
    kinds = (*_PROBLEMS, *(("not-found",) if names or endpoint.path == "/edge" else ()),
             *(("cluster",) if endpoint.path in ("/advice", "/whatif") else ()))  # fmt: skip
    return {
        "operationId": re.sub(r"\W+", "_", endpoint.path.strip("/")).strip("_"),
        "summary": endpoint.about,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            *_parameters(endpoint.params),
        ],
        "responses": {
            "200": {"description": endpoint.about, "content": {"application/json": {"schema": gives}}},
            **_problem_responses(kinds, problem),
        },
    }


def _problem_responses(kinds: Iterable[str], schema: dict[str, Any]) -> dict[str, Any]:
    texts: dict[str, list[str]] = {}
    for kind in kinds:
        texts.setdefault(str(KINDS[kind].status), []).append(f"{kind}: {KINDS[kind].about}")
    return {
        status: {"description": " ".join(several), "content": {problems.MEDIA_TYPE: {"schema": schema}}}
        for status, several in sorted(texts.items())
    }


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Parameters of the query string. An absent one is left out, so none of them can be null."""
    properties = model.model_json_schema(mode="validation", ref_template=_REFERENCE)["properties"] if (
        model.model_fields
    ) else {}  # fmt: skip
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    found = []
    for name, schema in properties.items():
        plain = {key: value for key, value in schema.items() if key not in ("title", "description", "anyOf")}
        if plain.get("default", ...) in (None, []):
            plain.pop("default")
        choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        one: dict[str, Any] = {
            "name": name,
            "in": "query",
            "required": fields[name].is_required(),
            "description": schema.get("description", ""),
            "schema": {**plain, **(choices[0] if choices else {})},
        }
        if is_several(fields[name].annotation):
            one |= {"style": "form", "explode": True}
        found.append(one)
    return found
