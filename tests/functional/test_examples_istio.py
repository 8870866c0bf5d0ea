"""examples/istio/: what the real Envoy writes in the recommended formats is read as what was sent."""

from __future__ import annotations

import importlib.util
import json
import os

import polars as pl
import pytest

from egresslens.demo import mesh, record
from egresslens.demo.plan import new_world, random_block
from egresslens.enrich import ORIGIN, enrich
from egresslens.rules import Rules
from istio_examples import json_labels, text

if importlib.util.find_spec("envoy") is None:
    if os.environ.get("CI") == "true":
        pytest.fail("the module envoy is not installed", pytrace=False)
    pytest.skip("the module envoy is not installed", allow_module_level=True)

pytestmark = pytest.mark.functional

# What the injector gives a proxy, and istiod tells it of its place.
ENVIRONMENT = {
    "ISTIO_META_CLUSTER_ID": "mesh-a",
    "POD_NAMESPACE": "shop",
    "ISTIO_META_WORKLOAD_NAME": "checkout",
    "POD_NAME": "checkout-5f6d8c7b9-k4w2z",
}
LOCALITY = {"region": "eu-west-1", "zone": "eu-west-1b"}
# pilot/pkg/model/telemetry_logging.go adds it where a format has %REQ_WITHOUT_QUERY%.
WITHOUT_QUERY = {
    "name": "envoy.formatter.req_without_query",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
    },
}
SOURCE = {
    "source_cluster": "mesh-a",
    "source_namespace": "shop",
    "source_workload": "checkout",
    "source_pod": "checkout-5f6d8c7b9-k4w2z",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The expected lines, and what Envoy wrote in each format."""
    formats = {"json": json_labels(), "text": text() + "\n"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(record, "FORMATS", formats)
        for name in ("sidecar_bootstrap", "gateway_bootstrap"):
            patch.setattr(mesh, name, as_istiod_says(getattr(mesh, name)))
        return record.recorded(new_world(random_block()), tmp_path_factory.mktemp("mesh"))


def as_istiod_says(bootstrap):
    """Let a bootstrap know its place, and the operator that is an extension, as istiod does."""

    def extended(*given):
        found = bootstrap(*given) | {"node": {"id": "x", "cluster": "x", "locality": LOCALITY}}
        for log_format in log_formats(found):
            log_format["formatters"] = [WITHOUT_QUERY]
        return found

    return extended


def log_formats(value):
    if isinstance(value, dict):
        yield from [value["log_format"]] if "log_format" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from log_formats(one)


def read(written, name, *formats):
    lines = written[1][name].encode().splitlines()
    origins = pl.DataFrame({field: [None] * len(lines) for field in ORIGIN}, schema=ORIGIN)
    return enrich(lines, origins, Rules(log_format=formats), keep_all=True)


@pytest.mark.parametrize("as_custom", [False, True], ids=["without a setting", "as the setting"])
def test_every_recommended_json_line_is_read_as_what_was_sent(written, as_custom):
    enriched = read(written, "json", *([json.dumps(json_labels())] if as_custom else []))
    assert enriched.rejects.is_empty()
    same(enriched.records, written[0])


def test_every_text_line_is_read_as_what_was_sent(written):
    enriched = read(written, "text", text())
    assert enriched.rejects.is_empty()
    same(enriched.records, written[0])


def same(records, lines):
    """Every field of the truth; of paths only what stands before the query string, which is never written."""
    assert len(records) == len(lines)
    for found, line in zip(records.iter_rows(named=True), lines, strict=True):
        wanted = record.expected("istio-json", line)
        wanted = {field: value for field, value in wanted.items() if field not in ("proxy", "situation")}
        wanted["path"] = wanted["path"] and wanted["path"].partition("?")[0]
        assert {field: found[field] for field in wanted} == wanted


@pytest.mark.parametrize("name", ["json", "text"])
def test_every_line_names_its_sender(written, name):
    records = read(written, name, *([text()] if name == "text" else [])).records
    assert [{field: one[field] for field in SOURCE} for one in records.rows(named=True)] == [SOURCE] * len(
        records
    )


def test_a_sidecar_says_where_it_runs(written):
    records = read(written, "json").records.filter(pl.col("source_region").is_not_null())
    assert set(records.select("source_region", "source_zone").rows()) == {("eu-west-1", "eu-west-1b")}


def test_no_query_string_leaves_the_proxy(written):
    assert any("?" in (line.path or "") for line in written[0])
    assert not any("trace=1" in written[1][name] for name in ("json", "text"))
