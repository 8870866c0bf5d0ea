"""The OpenAPI document says what the API is."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from egresslens.console.api import ENDPOINTS
from egresslens.console.openapi import document
from egresslens.console.problems import KINDS

PATHS = document()["paths"]


def parameters(path: str) -> dict[str, dict]:
    return {one["name"]: one for one in PATHS[path]["get"]["parameters"]}


def references(value) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_it_is_json_of_openapi_31():
    assert json.loads(json.dumps(document()))["openapi"] == "3.1.0"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_every_endpoint_is_described(endpoint):
    operation = PATHS[endpoint.path]["get"]
    assert operation["summary"] == endpoint.about
    assert {"200", "400", "401", "403", "422", "500", "503", "504"} <= operation["responses"].keys()


def test_no_two_operations_share_a_name():
    names = [operation["get"]["operationId"] for operation in PATHS.values()]
    assert len(set(names)) == len(names)


def test_every_schema_is_a_json_schema():
    for schema in document()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere():
    known = {f"#/components/schemas/{name}" for name in document()["components"]["schemas"]}
    assert references(document()) <= known


def test_limits_are_stated():
    assert parameters("/graph")["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 1_000,
    }
    assert parameters("/events")["limit"]["schema"]["maximum"] == 1_000


def test_parameters_have_the_names_of_the_query_string():
    assert {"from", "since", "until", "namespace", "workload", "host", "cluster"} <= parameters(
        "/graph"
    ).keys()


def test_an_absent_parameter_is_left_out_so_none_is_null():
    for path in PATHS:
        for one in parameters(path).values():
            assert "null" not in json.dumps(one["schema"])


def test_what_must_be_given_is_said():
    assert parameters("/edge")["label"]["required"] is True
    assert parameters("/edge")["source_workload"]["required"] is False
    assert parameters("/saved/{name}")["name"]["in"] == "path"


def test_parameters_that_may_be_repeated_say_so():
    assert parameters("/graph")["label"] | {"description": ""} == {
        "name": "label", "in": "query", "required": False, "description": "", "style": "form",
        "explode": True, "schema": {
            "type": "array",
            "items": {"type": "string", "enum": ["outbound", "passthrough", "blackhole", "unknown"]},
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_says_what_to_do_next(kind: str):
    assert KINDS[kind].hint
    assert KINDS[kind].about


def test_the_documentation_lists_every_path():
    page = (Path(__file__).parent.parent / "docs" / "reference" / "api.md").read_text()
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint.path}` | {endpoint.about} |" in page
