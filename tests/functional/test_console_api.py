"""The console's API on known traffic, from Kafka through the worker to JSON, as its document describes it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jsonschema
import pytest
import yaml

from clickhouse_rows import settings_of
from egresslens.console.pool import Readers
from egresslens.kafka.broker import Broker
from egresslens.report import REPORTS
from egresslens.report.query import saved
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deployment, deployments, istio_json, until
from registries import context, entry

pytestmark = pytest.mark.functional

HOSTILE = "<img src=x onerror=alert(1)>\u202e.example"
DATABASE_HOST = "db.abc.eu-west-1.rds.amazonaws.com"
EDGE = {
    "source_namespace": "shop", "source_workload": "cart", "label": "passthrough",
    "destination_host": "api.example.com", "destination_port": 443,
}  # fmt: skip


def line(number: int, host: str, workload: str = "cart", namespace: str = "shop", **fields: Any) -> bytes:
    """One record in Fluent Bit's envelope, so that it names its workload."""
    record = json.loads(istio_json(number, authority=host, **fields))
    labels = {"app": workload}
    kubernetes = {"namespace_name": namespace, "pod_name": f"{workload}-1", "labels": labels}
    return json.dumps({"log": json.dumps(record), "kubernetes": kubernetes}).encode()


def blackhole(number: int, host: str, **given: Any) -> bytes:
    return line(
        number, host, upstream_cluster="BlackHoleCluster", response_code=502, response_flags="UH",
        upstream_host=None, **given,
    )  # fmt: skip


def passthrough(number: int, host: str, **given: Any) -> bytes:
    return line(number, host, upstream_cluster="PassthroughCluster", **given)


def named(number: int, host: str, port: int = 443, **given: Any) -> bytes:
    return line(number, f"{host}:{port}", upstream_cluster=f"outbound|{port}||{host}", **given)


@dataclass
class Api:
    """A running console."""

    url: str
    child: subprocess.Popen[str]
    deployed: Deployment

    def ask(self, path: str, /, **query: Any) -> tuple[int, Any]:
        """Status and JSON; underscores at the end of names are left out."""
        asked = urlencode({name.rstrip("_"): value for name, value in query.items()}, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}api/v1{path}?{asked}", timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path: str, /, **query: Any) -> Any:
        status, answer = self.ask(path, **query)
        assert status == 200, answer
        return answer


@contextlib.contextmanager
def console(deployed: Deployment, **extra: str) -> Iterator[Api]:
    """A console over a deployment, stopped at the end."""
    given = {f"EGRESSLENS_{name}": value for name, value in extra.items()}
    child = subprocess.Popen(
        [*COMMAND, "console", "--port", "0"],
        env=deployed.environment | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = child.stdout.readline()
        assert said.startswith("console at http"), said + child.stderr.read()
        yield Api(said.removeprefix("console at ").strip(), child, deployed)
    finally:
        child.terminate()
        child.communicate(timeout=30)


@pytest.fixture(scope="module")
def api(broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A console on traffic in all three situations, and a registry that came in after a part of it."""
    makes = deployments(broker.bootstrap, store, tmp_path_factory.mktemp("console"))
    one = next(makes)()
    worker = one.start_worker()
    one.produce(
        [
            *(passthrough(n, "api.example.com", duration=20) for n in range(6)),
            *(passthrough(n, "api.example.com", response_code=503, response_flags="UF") for n in range(6, 8)),
            *(passthrough(n, "s3.us-east-1.amazonaws.com") for n in range(8, 11)),
            *(named(n, DATABASE_HOST, 5432) for n in range(11, 15)),
            *(blackhole(n, "evil.example", namespace="pay", workload="ledger") for n in range(15, 20)),
            passthrough(20, HOSTILE),
            *(named(n, "api.example.com") for n in range(21, 24)),
            *(passthrough(n, "www.example.com", workload="idgen") for n in range(24, 26)),
            b"no record at all",
        ]
    )
    one.wait_for_messages(27)
    declared = one.folder / "registry.yaml"
    documents = [
        entry("net/api", "api.example.com"),
        context(homes=[{"namespace": "shop", "regions": ["eu-west-1"]}]),
    ]
    declared.write_text("---\n".join(yaml.safe_dump(document) for document in documents))
    loaded = subprocess.run(
        [*COMMAND, "registry", "load", str(declared)],
        env=one.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    with console(one) as running:
        yield running
    assert worker.stop() == 0
    next(makes, None)


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    return api.get("/openapi.json")


def edges(api: Api, **query: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The graph's edges by label and host (or domain)."""
    found = api.get("/graph", **query)["edges"]
    return {(one["label"], one["destination_host"] or one["destination_domain"]): one for one in found}


def key_of(edge: dict[str, Any]) -> dict[str, Any]:
    names = ("source_cluster", "source_namespace", "source_workload", "source_ip", "label")
    names += ("destination_host", "destination_port") if edge["destination_host"] else ("destination_domain",)
    return {name: edge[name] for name in names if edge[name] is not None}


def run_sql(api: Api, sql: dict[str, Any]) -> list[dict[str, Any]]:
    """What `egresslens sql` says to a statement that the API gave."""
    done = subprocess.run(
        [*COMMAND, "sql", "--format", "json", "-"],
        env=api.deployed.environment,
        input=sql["text"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(text) for text in done.stdout.splitlines()]


# --- the document -------------------------------------------------------------------------------------------

QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/meta", {}),
    ("/graph", {}),
    ("/graph", {"group_source": "namespace", "group_destination": "domain", "limit": 1}),
    ("/graph", {"namespace": "nobody"}),
    ("/edge", EDGE),
    ("/timeline", {}),
    *((f"/reports/{name}", {}) for name in REPORTS),
    ("/alerts", {}),
    ("/advice", {}),
    ("/whatif", {}),
    ("/whatif", {"advised": "true"}),
    ("/events", {}),
    ("/pipeline", {}),
    ("/saved", {}),
    *((f"/saved/{name}", {}) for name in saved()),
]


def described(document: dict[str, Any], path: str, status: int) -> dict[str, Any]:
    operation = document["paths"]["/saved/{name}" if path.startswith("/saved/") else path]["get"]
    [content] = operation["responses"][str(status)]["content"].values()
    return {"$defs": {}, **content["schema"], "components": document["components"]}


def test_every_path_is_asked(document: dict[str, Any]):
    asked = {"/saved/{name}" if path.startswith("/saved/") else path for path, _ in QUESTIONS}
    assert asked == document["paths"].keys()


@pytest.mark.parametrize(("path", "query"), QUESTIONS)
def test_an_answer_is_what_the_document_says(
    api: Api, document: dict[str, Any], path: str, query: dict[str, Any]
):
    status, answer = api.ask(path, **query)
    assert status == 200, answer
    jsonschema.Draft202012Validator(
        described(document, path, 200), format_checker=jsonschema.FormatChecker()
    ).validate(answer)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/graph", {"limt": "1"}, 400),
        ("/edge", {"label": "outbound", "destination_host": "nobody.example"}, 404),
        ("/saved/none", {}, 404),
        ("/events", {"cursor": "x"}, 400),
    ],
)
def test_a_problem_is_what_the_document_says(
    api: Api, document: dict[str, Any], path: str, query: dict[str, Any], status: int
):
    found, answer = api.ask(path, **query)
    assert found == status
    jsonschema.Draft202012Validator(described(document, path, status)).validate(answer)


@pytest.mark.parametrize("endpoint", ["/graph", "/timeline", "/reports/external", "/events", "/alerts"])
def test_hostile_filters_are_values(api: Api, endpoint: str):
    for text in ("' OR 1=1 --", "\\", "*%_", "{since:String}", "\x00", HOSTILE):
        status, answer = api.ask(endpoint, namespace=text, host=text, cluster=text)
        assert status == 200, (text, answer)
        assert not any(answer.get(name) for name in ("edges", "points", "rows", "records"))


# --- the graph ----------------------------------------------------------------------------------------------


def test_the_graph_shows_the_three_situations(api: Api):
    found = {at: one["requests"] for at, one in edges(api).items()}
    assert found == {
        ("passthrough", "api.example.com"): 8,
        ("passthrough", "s3.us-east-1.amazonaws.com"): 3,
        ("passthrough", HOSTILE): 1,
        ("passthrough", "www.example.com"): 2,
        ("outbound", DATABASE_HOST): 4,
        ("outbound", "api.example.com"): 3,
        ("blackhole", "evil.example"): 5,
    }


def test_the_totals_are_those_of_all_edges(api: Api):
    found = api.get("/graph")
    names = ("requests", "errors", "bytes_sent", "bytes_received")
    assert {name: sum(one[name] for one in found["edges"]) for name in names} == {
        name: found["totals"][name] for name in names
    }
    assert (found["totals"]["requests"], found["totals"]["blocked"], found["totals"]["registered"]) == (
        26,
        5,
        7,
    )
    assert (found["totals"]["sources"], found["totals"]["destinations"]) == (3, 6)


def test_a_newly_registered_host_is_a_node_of_its_own(api: Api):
    before = edges(api)["passthrough", "api.example.com"]
    since = edges(api)["outbound", "api.example.com"]
    assert before["service_entry"] == since["service_entry"] == "net/api"
    assert since["is_new"] is True
    came_in = datetime.fromisoformat(since["registered_at"].replace("Z", "+00:00"))
    assert datetime.now(timezone.utc) - came_in < timedelta(hours=1)


def test_the_rest_beyond_the_limit_is_summed_and_said(api: Api):
    found = api.get("/graph", limit=3)
    kept = [one for one in found["edges"] if one["destination_host"] != "(other)"]
    assert {one["label"] for one in kept} == {"outbound", "passthrough", "blackhole"}
    assert found["left_off"] == {"edges": 4, "requests": 9}
    assert sum(one["requests"] for one in found["edges"]) == 26


def test_hosts_can_be_grouped_by_registrable_domain(api: Api):
    found = edges(api, group_destination="domain", group_source="namespace")
    one = found["passthrough", "example.com"]
    assert (one["requests"], one["destinations"], one["sources"]) == (10, 2, 2)


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ({"namespace": "pay"}, 5), ({"workload": "idgen"}, 2), ({"host": "*.example.com"}, 13),
        ({"label": "blackhole"}, 5), ({"label": ["blackhole", "outbound"]}, 12), ({"cluster": "other"}, 0),
    ],
)  # fmt: skip
def test_filters_narrow_the_graph(api: Api, query: dict[str, Any], requests: int):
    assert api.get("/graph", **query)["totals"]["requests"] == requests


def test_the_graphs_sql_gives_the_graph(api: Api):
    found = api.get("/graph", workload="cart")
    rows = run_sql(api, next(one for one in found["sql"] if one["name"] == "edges"))
    assert {(row["label"], row["destination_host"]): int(row["requests"]) for row in rows} == {
        (one["label"], one["destination_host"]): one["requests"] for one in found["edges"]
    }


def test_the_graph_counts_what_the_reports_count(api: Api):
    rows = api.get("/reports/external")["rows"]
    found = edges(api)
    for row in rows:
        one = found[row["label"], row["destination_host"]]
        for name in ("requests", "errors", "bytes_sent", "bytes_received", "service_entry", "first_seen"):
            assert one[name] == row[name]


# --- one edge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups",
    [{}, {"group_source": "namespace"}, {"group_destination": "domain"},
     {"group_source": "namespace", "group_destination": "domain"}],
)  # fmt: skip
def test_an_edges_numbers_are_the_graphs_in_every_part(api: Api, groups: dict[str, str]):
    edges = api.get("/graph", **groups)["edges"]
    for one in edges[:1] if groups else edges:
        found = api.get("/edge", **key_of(one), **groups)
        assert found["edge"] == one
        assert sum(point["requests"] for point in found["timeline"]) == one["requests"]
        assert sum(code["requests"] for code in found["codes"]) == one["requests"]
        assert sum(found["latency"]["counts"]) == one["requests"]
        assert len(found["records"]) == one["requests"]


def test_an_edge_says_codes_flags_latency_and_what_proved_it(api: Api):
    found = api.get("/edge", **key_of(edges(api)["passthrough", "api.example.com"]))
    assert found["codes"] == [{"response_code": 200, "requests": 6}, {"response_code": 503, "requests": 2}]
    assert found["flags"] == [{"flag": "UF", "records": 2}]
    assert found["evidence"] == [{"label_evidence": "cluster", "proof": "PassthroughCluster", "records": 8}]
    assert found["latency"]["p50_ms"] <= 25
    assert found["records_kept"] is True
    assert found["records"][0]["path"].startswith("/item/")
    assert "token" not in found["records"][0]["path"]


def test_an_edges_sql_gives_its_numbers(api: Api):
    found = api.get("/edge", **key_of(edges(api)["blackhole", "evil.example"]))
    texts = {one["name"]: one for one in found["sql"]}
    assert [int(row["requests"]) for row in run_sql(api, texts["edge"])] == [5]
    assert [int(row["requests"]) for row in run_sql(api, texts["codes"])] == [5]


def test_a_hostile_name_is_found_by_itself(api: Api):
    found = api.get("/edge", **key_of(edges(api)["passthrough", HOSTILE]))
    assert found["edge"]["destination_host"] == HOSTILE
    assert found["edge"]["requests"] == 1


# --- the rest -----------------------------------------------------------------------------------------------


def test_the_timeline_adds_up_to_the_graph(api: Api):
    points = api.get("/timeline")["points"]
    blocked = sum(point["requests"] for point in points if point["label"] == "blackhole")
    assert (sum(point["requests"] for point in points), blocked) == (26, 5)


@pytest.mark.parametrize("name", ["external", "regions"])
def test_a_report_is_that_of_the_command(api: Api, name: str):
    done = subprocess.run(
        [*COMMAND, "report", name, "--format", "json"],
        env=api.deployed.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert api.get(f"/reports/{name}")["rows"] == json.loads(done.stdout)["rows"]


def test_a_report_comes_in_pages(api: Api):
    whole = api.get("/reports/external")["rows"]
    first, second = api.get("/reports/external", limit=2), api.get("/reports/external", limit=2, offset=2)
    assert first["rows"] + second["rows"] == whole[:4]
    assert first["more"] is True


def test_regions_have_a_matrix(api: Api):
    matrix = {
        (row["home_region"], row["destination_region"]): row for row in api.get("/reports/regions")["matrix"]
    }
    assert matrix["eu-west-1", "us-east-1"]["place"] == "out of region"
    assert matrix["eu-west-1", "us-east-1"]["requests"] == 3


def test_records_come_in_pages_that_add_up(api: Api):
    seen, cursor = [], {}
    while True:
        page = api.get("/events", limit=10, **cursor)
        seen += [(one["topic"], one["partition"], one["offset"], one["seq"]) for one in page["records"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == len(set(seen)) == 26


@pytest.mark.parametrize(
    ("query", "count"),
    [({"code": "5xx"}, 7), ({"code": ["503", "502"]}, 7), ({"flag": "UF"}, 2), ({"label": "outbound"}, 7),
     ({"path": "/item/1"}, 11), ({"request_id": f"{3:032x}"}, 1)],
)  # fmt: skip
def test_records_are_found_by_what_they_say(api: Api, query: dict[str, Any], count: int):
    assert len(api.get("/events", **query)["records"]) == count


def test_following_gives_what_came_in_since(api: Api):
    look = api.get("/events", host="later.example")
    assert look["records"] == []
    assert api.get("/events", host="later.example", follow=look["follow"])["records"] == []
    api.deployed.produce([passthrough(100, "later.example")])
    came: list[Any] = []
    cursor = look["follow"]

    def arrived() -> bool:
        nonlocal cursor
        found = api.get("/events", host="later.example", follow=cursor)
        cursor = found["follow"]
        came.extend(found["records"])
        return bool(came)

    until(arrived, "the record is followed")
    assert [one["destination_host"] for one in came] == ["later.example"]
    assert api.get("/events", host="later.example", follow=cursor)["records"] == []


def test_the_pipeline_accounts_for_every_message(api: Api):
    found = until(lambda: (now := api.get("/pipeline"))["totals"]["lag"] == 0 and now, "no lag")
    assert found["kafka"] == {"reachable": True, "why": None}
    parts = ("messages_with_records", "messages_filtered", "messages_rejected")
    assert found["totals"]["messages"] == sum(sum(one[name] for name in parts) for one in found["partitions"])
    assert sum(found["totals"]["rejected"].values()) == 1
    assert [one["count"] for one in found["dead_letters"]] == [1]
    assert "no record at all" not in json.dumps(found)


def test_the_pipeline_has_a_rate_from_the_second_look_on(api: Api):
    api.get("/pipeline")
    until(lambda: api.get("/pipeline")["rates"]["messages_per_s"] is not None, "a rate")


def test_advice_allows_what_was_let_out(api: Api):
    found = api.get("/advice")
    entries = [one for one in found["objects"] if one["kind"] == "ServiceEntry"]
    assert any("s3.us-east-1.amazonaws.com" in one["yaml"] for one in entries)
    assert all(isinstance(document, dict) for one in entries for document in yaml.safe_load_all(one["yaml"]))
    assert found["whatif"]["now"]["blocked"] > found["whatif"]["applied"]["blocked"]
    assert found["whatif"]["applied"] == api.get("/whatif", advised="true")["requests"]


def test_meta_names_what_filters_may_be_set_to(api: Api):
    found = api.get("/meta")
    assert {"shop", "pay"} <= set(found["namespaces"])
    assert {"cart", "ledger", "idgen"} <= {one["source_workload"] for one in found["workloads"]}
    assert (found["has_data"], found["user"], found["logout"]) == (True, None, False)


# --- running ------------------------------------------------------------------------------------------------


def test_it_says_when_the_tables_are_missing(api: Api):
    with console(api.deployed, DATABASE="nothing_here") as empty:
        status, answer = empty.ask("/graph")
        assert (status, answer["type"]) == (503, "/api/v1/problems/store-not-migrated")
        assert "egresslens migrate" in answer["hint"]


def test_a_query_that_takes_too_long_is_ended(api: Api):
    with console(api.deployed, CONSOLE_QUERY_MEMORY_BYTES="1000") as small:
        status, answer = small.ask("/graph")
        assert (status, answer["type"]) == (422, "/api/v1/problems/too-much")


def test_sigterm_stops_it_with_exit_code_0(api: Api):
    with console(api.deployed) as running:
        running.child.send_signal(signal.SIGTERM)
        assert running.child.wait(20) == 0


def test_beyond_the_loopback_it_does_not_start_without_logins(api: Api):
    done = subprocess.run(
        [*COMMAND, "console", "--host", "0.0.0.0", "--port", "0"],
        env=api.deployed.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert "EGRESSLENS_CONSOLE_PASSWORD_FILE" in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_with_a_certificate_it_speaks_tls_and_its_cookie_is_secure(api: Api, tmp_path: Path):
    certificate, key, passwords = (tmp_path / name for name in ("cert.pem", "key.pem", "passwords"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=console", "-days", "1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    passwords.write_text("ann:secret\n")
    passwords.chmod(0o600)
    given = {
        "CONSOLE_TLS_CERTFILE": str(certificate),
        "CONSOLE_TLS_KEYFILE": str(key),
        "CONSOLE_PASSWORD_FILE": str(passwords),
    }
    with console(api.deployed, **given) as running:
        url = urlsplit(running.url)
        connection = http.client.HTTPSConnection(
            url.hostname, url.port, context=ssl.create_default_context(cafile=str(certificate)), timeout=30
        )
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"https://{url.netloc}",
        }
        connection.request("POST", "/login", "user=ann&password=secret", headers)
        answer = connection.getresponse()
        connection.close()
        assert answer.status == 303
        assert "Secure" in answer.headers["Set-Cookie"]


def test_a_port_that_is_taken_is_said(api: Api):
    port = str(urlsplit(api.url).port)
    done = subprocess.run(
        [*COMMAND, "console", "--port", port],
        env=api.deployed.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 69
    assert f"127.0.0.1:{port}" in done.stderr


# --- one who goes away --------------------------------------------------------------------------------------


class Stalling:
    """A way to a store on which answers can be held back."""

    def __init__(self, store: StoreProcess) -> None:
        self._store = (urlsplit(store.url).hostname, urlsplit(store.url).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.flows = threading.Event()
        self.flows.set()
        self.asked = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Hold back what comes on the connections there are; later ones flow."""
        self.flows.clear()
        self.flows = threading.Event()
        self.flows.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._store)
                for way in ((client, server, None), (server, client, self.flows)):
                    threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, flows: threading.Event | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if flows is None:
                    self.asked.set()
                else:
                    flows.wait()
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


async def test_who_goes_away_as_the_answer_comes_spoils_no_client(store: StoreProcess):
    readers = Readers(settings_of(store))
    try:
        asking = asyncio.create_task(readers.ask(lambda client: client.query("SELECT 1").first_row))
        while not readers._lent:  # noqa: ASYNC110 - the turn of the loop counts
            await asyncio.sleep(0)
        while readers._lent:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert await readers.ask(lambda client: client.query("SELECT 2").first_row) == (2,)
    finally:
        readers.close()


async def test_the_place_of_one_who_goes_away_is_free_again(store: StoreProcess):
    way = Stalling(store)
    given = {"clickhouse_url": f"http://127.0.0.1:{way.port}", "console_queries": 1}
    readers = Readers(settings_of(store).model_copy(update=given))
    try:
        assert await readers.ask(lambda reader: reader.command("SELECT 1")) == 1
        way.asked.clear()
        way.hold()
        gone = asyncio.create_task(readers.ask(lambda reader: reader.command("SELECT 2")))
        assert await asyncio.to_thread(way.asked.wait, 20)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(gone, 20)
        assert await readers.ask(lambda reader: reader.command("SELECT 3")) == 3
    finally:
        readers.close()
        way.close()


def test_who_closes_the_connection_gives_the_place_back(api: Api, store: StoreProcess):
    way = Stalling(store)
    given = {"CLICKHOUSE_URL": f"http://127.0.0.1:{way.port}", "CONSOLE_QUERIES": "1"}
    with console(api.deployed, **given) as running:
        running.get("/saved/reconcile")
        way.asked.clear()
        way.hold()
        gone = socket.create_connection((urlsplit(running.url).hostname, urlsplit(running.url).port))
        gone.sendall(b"GET /api/v1/saved/reconcile HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert way.asked.wait(20)
        gone.close()
        assert running.get("/saved/reconcile")["rows"]
    way.close()
