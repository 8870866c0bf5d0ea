"""The Helm chart, by what it renders (tests/golden/kubernetes, made by `make chart` with the real helm)."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

import egresslens
from command_line import parsed
from egresslens.metrics import WorkerMetrics
from egresslens.settings import Settings, load
from kubernetes_files import CHART, GOLDEN, RELEASES, allowed, chart_sum, render, schema
from published import strict

CUSTOM = {"ScaledObject": "keda-scaledobject.json", "PodMonitor": "prometheus-podmonitor.json"}
# A worker has flushed and committed, or given up, this long after SIGTERM (worker/app.py).
STOPPED_S = 10


def objects(release: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((GOLDEN / f"{release}.yaml").read_text()) if one]


ALL = [(release, one["kind"], one["metadata"]["name"]) for release in RELEASES for one in objects(release)]
PODS = [one for one in ALL if one[1] in ("Deployment", "Job")]
in_each_object = pytest.mark.parametrize(("release", "kind", "name"), ALL)
in_each_pod = pytest.mark.parametrize(("release", "kind", "name"), PODS)


def find(release: str, kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [
        one for one in objects(release) if one["kind"] == kind and one["metadata"]["name"].endswith(name)
    ]
    return found


def pod(release: str, kind: str, name: str) -> dict[str, Any]:
    return find(release, kind, name)["spec"]["template"]["spec"]


def container(release: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = pod(release, kind, name)["containers"]
    return found


def environment(release: str, kind: str, name: str) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(release, kind, name)["env"]}


# --- rendering ----------------------------------------------------------------------------------------------


def test_the_golden_files_are_of_this_chart():
    assert (GOLDEN / "chart.sha256").read_text().strip() == chart_sum(), "run `make chart`, which needs helm"


@pytest.mark.parametrize("release", RELEASES)
def test_helm_renders_what_the_golden_file_says(release):
    if shutil.which("helm") is None:
        pytest.skip("helm is not on the PATH; chart.sha256 tells whether the golden files are of this chart")
    assert render(RELEASES[release]) == (GOLDEN / f"{release}.yaml").read_text()


def test_helm_refuses_more_workers_than_partitions():
    if shutil.which("helm") is None:
        pytest.skip("helm is not on the PATH")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render({"worker": {"replicas": 13}})
    assert "13 workers are more than the topic's 12 partitions" in caught.value.stderr


# --- what Kubernetes takes ----------------------------------------------------------------------------------


@in_each_object
@pytest.mark.parametrize("version", ["1.27", "1.36"])
def test_an_object_is_as_its_api_says(release, kind, name, version):
    found = find(release, kind, name)
    if kind in CUSTOM:
        errors = Draft202012Validator(strict(CUSTOM[kind])).iter_errors(found)
        assert [f"{error.json_path}: {error.message}" for error in errors] == []
    else:
        kubernetes_validate.validate(found, version, strict=True)


def test_an_unknown_field_of_a_custom_object_would_be_found_out():
    wrong = copy.deepcopy(find("keda", "ScaledObject"))
    wrong["spec"]["maxReplicas"] = 3
    assert list(Draft202012Validator(strict(CUSTOM["ScaledObject"])).iter_errors(wrong))


@in_each_pod
def test_a_pod_meets_the_restricted_pod_security_standard(release, kind, name):
    spec = pod(release, kind, name)
    of_pod, of_container = spec["securityContext"], container(release, kind, name)["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] > 0
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all({"secret", "configMap", "emptyDir"} & volume.keys() for volume in spec["volumes"])


@in_each_pod
def test_a_container_cannot_write_to_its_image(release, kind, name):
    assert container(release, kind, name)["securityContext"]["readOnlyRootFilesystem"] is True


@in_each_pod
def test_a_pod_has_no_token_of_kubernetes(release, kind, name):
    assert pod(release, kind, name)["automountServiceAccountToken"] is False


@in_each_pod
def test_a_container_requests_what_it_needs_and_has_a_memory_limit(release, kind, name):
    resources = container(release, kind, name)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]


@in_each_pod
def test_mounts_and_volumes_are_the_same(release, kind, name):
    mounted = sorted(one["name"] for one in container(release, kind, name)["volumeMounts"])
    assert mounted == sorted(one["name"] for one in pod(release, kind, name)["volumes"])


@pytest.mark.parametrize("release", RELEASES)
def test_secrets_are_only_referred_to(release):
    assert "Secret" not in {one["kind"] for one in objects(release)}


# --- what egresslens takes ----------------------------------------------------------------------------------


@in_each_pod
def test_a_command_exists_with_those_options(release, kind, name, tmp_path):
    # Where files are mounted.
    (tmp_path / "registry").mkdir()
    arguments = container(release, kind, name)["args"]
    assert parsed([one.replace("/etc/egresslens", str(tmp_path)) for one in arguments])


def test_the_registry_watches_a_folder_that_is_mounted():
    watched = container("keda", "Deployment", "-registry")
    assert watched["args"] == ["registry", "watch", "/etc/egresslens/registry", "--cluster", "mesh-a"]
    assert watched["args"][2] in [one["mountPath"] for one in watched["volumeMounts"]]


@in_each_pod
def test_the_environment_is_settings_with_values_that_parse(release, kind, name, tmp_path):
    values = environment(release, kind, name)
    file = tmp_path / "egresslens.toml"
    file.write_text("")
    settings = load(values | {"EGRESSLENS_CONFIG_FILE": str(file)})
    assert settings.topic_partitions == 12


def test_lists_and_numbers_arrive_as_they_were_meant(tmp_path):
    values = environment("keda", "Deployment", "-worker")
    del values["EGRESSLENS_CONFIG_FILE"]
    settings = load(values)
    assert settings.access_log_topics == ("mesh-a.access-log", "mesh-b.access-log")
    assert settings.max_rejected_share == 0.5


@in_each_pod
def test_the_settings_file_is_mounted_where_the_environment_says(release, kind, name):
    place = Path(environment(release, kind, name)["EGRESSLENS_CONFIG_FILE"])
    mounts = {one["name"]: one["mountPath"] for one in container(release, kind, name)["volumeMounts"]}
    assert str(place.parent) == mounts["settings"]


def test_the_console_does_not_know_the_writer():
    (volume,) = [
        one for one in pod("default", "Deployment", "-console")["volumes"] if one["name"] == "settings"
    ]
    assert volume["secret"]["secretName"] == "egresslens-reader"


@pytest.mark.parametrize(
    ("component", "setting"),
    [("worker", "WEB_PORT"), ("alerts", "ALERTS_WEB_PORT"), ("console", "CONSOLE_PORT")],
)
def test_probes_ask_where_the_command_listens(component, setting):
    found = container("default", "Deployment", f"-{component}")
    values = environment("default", "Deployment", f"-{component}")
    assert {one["name"]: str(one["containerPort"]) for one in found["ports"]} == {
        "http": values[f"EGRESSLENS_{setting}"]
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert found[probe]["httpGet"]["port"] == "http"


@pytest.mark.parametrize("component", ["worker", "alerts"])
def test_a_stopping_process_is_given_the_time_it_takes(component):
    assert pod("default", "Deployment", f"-{component}")["terminationGracePeriodSeconds"] >= 2 * STOPPED_S


def test_a_new_version_starts_no_worker_beside_the_old_ones():
    strategy = find("default", "Deployment", "-worker")["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxSurge"] == 0


def test_the_tables_are_there_before_the_workers():
    annotations = find("default", "Job")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_the_job_needs_nothing_that_is_made_after_it():
    assert "serviceAccountName" not in pod("default", "Job", "-migrate")


# --- scaling ------------------------------------------------------------------------------------------------


def test_keda_looks_at_the_workers_group_and_topics():
    triggers = find("keda", "ScaledObject")["spec"]["triggers"]
    group = Settings.model_fields["kafka_group"].default
    assert {one["metadata"]["consumerGroup"] for one in triggers} == {group}
    assert [one["metadata"]["topic"] for one in triggers] == ["mesh-a.access-log", "mesh-b.access-log"]


def test_the_topic_without_a_setting_is_the_programs():
    text = (CHART / "templates/_helpers.tpl").read_text()
    assert Settings.model_fields["access_log_topics"].default == (
        re.search(r'default "(egress\..*)"', text)[1],
    )


def test_the_hpa_looks_at_a_metric_that_workers_have():
    (metric,) = find("hpa", "HorizontalPodAutoscaler")["spec"]["metrics"]
    served = WorkerMetrics(0).exposition().decode()
    assert f"# TYPE {metric['pods']['metric']['name']} gauge\n" in served


@pytest.mark.parametrize("release", ["keda", "hpa"])
def test_who_scales_decides_how_many(release):
    assert "replicas" not in find(release, "Deployment", "-worker")["spec"]


# --- the values ---------------------------------------------------------------------------------------------


def values_of(release: str) -> dict[str, Any]:
    return merged(yaml.safe_load((CHART / "values.yaml").read_text()), RELEASES[release])


def merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}
    return over


def refused(values: dict[str, Any]) -> list[str]:
    checker = Draft202012Validator(json.loads((CHART / "values.schema.json").read_text()))
    return [error.message for error in checker.iter_errors(values)]


def test_the_schema_knows_this_versions_settings():
    text = (CHART / "values.schema.json").read_text()
    assert schema(text) == text, "run `make chart`"


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_takes_the_values(release):
    assert refused(values_of(release)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": {"kafka_broker": "kafka:9092"}},
        {"settings": {"clickhouse_password": "secret"}},
        {"settings": {"web_port": 80}},
        {"worker": {"autoscaling": {"kind": "vpa"}}},
        {"files": [{"name": "ca", "path": "/etc/egresslens/ca"}]},
        {"files": [{"name": "ca", "secret": "ca", "path": "/etc/passwd"}]},
        {"image": {"digest": "latest"}},
        {"workers": {}},
    ],
)
def test_the_schema_refuses(wrong):
    assert refused(merged(values_of("default"), wrong))


def test_no_secret_can_be_a_value():
    assert not {name for name in allowed() if re.search("password$|token|webhook_url", name)}


def test_the_charts_versions_are_the_programs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == egresslens.__version__


def test_every_template_is_rendered_by_a_release():
    used = {
        Path(line.split()[-1]).name
        for release in RELEASES
        for line in (GOLDEN / f"{release}.yaml").read_text().splitlines()
        if line.startswith("# Source: ")
    }
    templates = {file.name for file in (CHART / "templates").glob("*.yaml")}
    assert templates == used
