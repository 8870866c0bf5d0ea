"""The console's page in a real browser, on known traffic in the real store."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from egresslens.console.app import STATIC
from egresslens.kafka.broker import Broker, free_port
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, deployments, istio_json
from registries import context, entry

pytestmark = pytest.mark.functional
expect.set_options(timeout=20_000)

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
VIEWS = (
    "graph", "timeline", "blocked", "new", "databases", "regions", "alerts", "advice", "events", "coverage",
    "pipeline",
)  # fmt: skip
# A name as an attacker may send it: an element, a script's end, and the mark that turns the writing round.
HOSTILE = '<img src=x onerror=hacked=1></script><script>hacked=1</script>\u202e"evil.example'
SHOWN = HOSTILE.replace("\u202e", "\\u202e")
KEY = [None, "shop", "cart", None, "passthrough", "api.example.com", 80, None]


def line(number: int, host: str, workload: str = "cart", namespace: str = "shop", **fields: Any) -> bytes:
    """One record in Fluent Bit's envelope, so that it names its workload."""
    record = json.loads(istio_json(number, authority=host, **fields))
    labels = {"app": workload}
    kubernetes = {"namespace_name": namespace, "pod_name": f"{workload}-1", "labels": labels}
    return json.dumps({"log": json.dumps(record), "kubernetes": kubernetes}).encode()


def passthrough(number: int, host: str, **given: Any) -> bytes:
    return line(
        number,
        host,
        upstream_cluster="PassthroughCluster",
        downstream_local_address="203.0.113.9:80",
        **given,
    )


def blackhole(number: int, host: str, **given: Any) -> bytes:
    return line(
        number, host, upstream_cluster="BlackHoleCluster", response_code=502, response_flags="UH",
        upstream_host=None, **given,
    )  # fmt: skip


def named(number: int, host: str, port: int, **given: Any) -> bytes:
    return line(number, host, upstream_cluster=f"outbound|{port}||{host}", **given)


TRAFFIC = [
    *(passthrough(n, "api.example.com", bytes_received=100) for n in range(6)),
    *(passthrough(n, "api.example.com", response_code=503, bytes_received=100) for n in range(6, 8)),
    *(named(n, "api.example.com", 80) for n in range(8, 11)),
    *(named(n, "db.abc.eu-west-1.rds.amazonaws.com", 5432) for n in range(11, 15)),
    *(blackhole(n, "evil.example", namespace="pay", workload="ledger") for n in range(15, 20)),
    passthrough(20, HOSTILE),
    b"not a record",
]


@dataclass
class Console:
    """A running `egresslens console`."""

    url: str
    child: subprocess.Popen[str]

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait(20)
        assert self.child.stdout is not None
        self.child.stdout.close()


def start_console(environment: dict[str, str]) -> Console:
    child = subprocess.Popen(
        [*COMMAND, "console", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    said = child.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert found, f"it said {said!r}"
    return Console(found[0], child)


@pytest.fixture(scope="module")
def deploy(broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    makes = deployments(broker.bootstrap, store, tmp_path_factory.mktemp("console"))
    yield next(makes)
    next(makes, None)


@pytest.fixture(scope="module")
def deployed(deploy: Deploy) -> Deployment:
    """Traffic in the three situations, and a registry that came after it."""
    one = deploy()
    one.start_worker()
    one.produce(TRAFFIC)
    one.wait_for_messages(len(TRAFFIC))
    declared = one.folder / "registry.yaml"
    documents = [
        entry("net/api", "api.example.com", ports="80/HTTP"),
        context(
            homes=[{"namespace": "shop", "regions": ["eu-central-1"]}],
            residency=[{"name": "eu", "namespaces": ["shop"], "regions": ["eu-central-*"]}],
        ),
    ]
    declared.write_text("---\n".join(yaml.safe_dump(document) for document in documents))
    loaded = subprocess.run(
        [*COMMAND, "registry", "load", str(declared)],
        env=one.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    return one


@pytest.fixture(scope="module")
def console(deployed: Deployment) -> Iterator[Console]:
    running = start_console(deployed.environment)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "Chromium is not installed: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        # As root, in containers, Chromium starts only without its sandbox; it opens this page alone.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Seen:
    """What a page complained of, and whom it called."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def open_page(browser: Browser, **options: Any) -> tuple[Page, Seen]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
    opened.set_default_timeout(20_000)
    seen = Seen()
    opened.on("console", lambda said: seen.complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: seen.complaints.append(str(error)))
    opened.on("request", lambda request: seen.requests.append(request.url))
    return opened, seen


@pytest.fixture
def page(browser: Browser, console: Console) -> Iterator[Page]:
    """A page on the console. That it complains of nothing and calls nobody else is part of each test."""
    opened, seen = open_page(browser, base_url=console.url)
    yield opened
    opened.context.close()
    assert seen.complaints == []
    assert {urlsplit(url).netloc for url in seen.requests} <= {urlsplit(console.url).netloc}


def visit(page: Page, query: str = "", live: str = "off") -> None:
    """Open an address and wait until its answer is drawn."""
    page.goto(f"?live={live}&since=1h&{query}")
    settled(page)


def settled(page: Page) -> None:
    expect(page.locator("body")).not_to_have_class(re.compile("loading"))
    expect(page.locator("#view h1")).to_be_visible()


def names(page: Page, band: str) -> list[str]:
    return [text.strip() for text in page.locator(f".band.{band} button .name").all_inner_texts()]


def amount(page: Page, fact: str) -> str:
    """A fact of the panel."""
    facts = page.locator("#panel .facts div").filter(has=page.locator(f'dt:text-is("{fact}")'))
    return facts.first.locator("dd").inner_text()


# --- the graph ----------------------------------------------------------------------------------------------


def test_the_graph_shows_the_three_situations_apart(page: Page):
    visit(page)
    assert names(page, "blackhole") == ["evil.example:443"]
    assert sorted(names(page, "passthrough")) == sorted([f"{SHOWN}:80", "api.example.com:80"])
    assert sorted(names(page, "outbound")) == [
        "api.example.com:80",
        "db.abc.eu-west-1.rds.amazonaws.com:5432",
    ]
    sources = page.locator('ul[aria-label="Workloads"] button .name').all_inner_texts()
    assert sorted(text.strip() for text in sources) == ["pay/ledger", "shop/cart"]


def test_a_blocked_edge_is_red_dashed_and_marked(page: Page):
    visit(page)
    edge = page.locator(".middle g.edge.blackhole")
    assert edge.get_attribute("aria-label").startswith("pay/ledger → evil.example:443: blocked, 5 requests")
    looks = edge.locator(".line").evaluate(
        "e => [getComputedStyle(e).stroke, getComputedStyle(e).strokeDasharray]"
    )
    red = [int(part) for part in re.findall(r"\d+", looks[0])[:3]]
    assert red[0] > 2 * max(red[1:])
    assert looks[1] != "none"
    assert edge.locator(".stop").count() == 1
    assert page.locator(".middle g.edge.outbound .stop").count() == 0


def test_a_newly_registered_host_is_a_node_of_its_own(page: Page):
    visit(page)
    node = page.locator(".band.outbound button", has_text="api.example.com:80")
    expect(node).to_contain_text("newly registered")
    expect(page.locator(".band.passthrough button", has_text="api.example.com:80")).to_be_visible()


def test_the_table_says_the_same_as_the_graph(page: Page):
    visit(page)
    rows = page.locator('table:has(caption:text("Calls out of the mesh")) tbody tr')
    in_table = {(row.locator("th").inner_text(), row.locator("td").nth(0).inner_text()) for row in rows.all()}
    in_graph = {
        tuple(label.split(": ")[0].split(" → "))
        for label in (edge.get_attribute("aria-label") for edge in page.locator(".middle g.edge").all())
        if SHOWN not in label
    }
    assert in_graph <= in_table
    assert rows.count() == page.locator(".middle g.edge").count() == 5


def test_the_numbers_of_an_edge_are_those_of_the_sql(page: Page, deployed: Deployment):
    visit(page)
    page.locator('.middle g.edge[aria-label^="shop/cart → api.example.com:80: let out unknown"]').press(
        "Enter"
    )
    expect(page.locator("#panel h2")).to_contain_text("api.example.com:80")
    expect(page.locator("#panel .facts").first).to_be_visible()
    shown = (amount(page, "Requests"), amount(page, "Errors").split()[0], amount(page, "Sent out"))
    assert shown == ("8", "2", "800 B")
    page.locator("#panel details.sql summary").click()
    sql = page.locator('#panel pre[aria-label="SQL: edge"]').inner_text()
    (row,) = deployed.reader.query(sql).named_results()
    assert (row["requests"], row["errors"], row["bytes_received"]) == (8, 2, 800)
    of_host = "WHERE label = 'passthrough' AND destination_host = 'api.example.com'"
    assert deployed.value("SELECT sum(requests) FROM {db}.windows_1m " + of_host) == 8


def test_the_panel_tells_codes_flags_latency_and_records(page: Page):
    visit(page, "edge=" + json.dumps([None, "pay", "ledger", None, "blackhole", "evil.example", 443, None]))
    panel = page.locator("#panel")
    expect(panel.get_by_role("row", name=re.compile(r"^502\s+5$"))).to_be_visible()
    expect(panel.get_by_role("row", name=re.compile(r"^UH\s+5$"))).to_be_visible()
    expect(panel).to_contain_text("p95")
    expect(panel.locator('table:has(caption:text("Last records")) tbody tr')).to_have_count(5)


def test_width_by_bytes_is_another_picture_of_the_same_edges(page: Page):
    visit(page)
    edge = page.locator(".middle g.edge.blackhole .line")
    by_requests = edge.get_attribute("stroke-width")
    page.get_by_role("button", name="Bytes", exact=True).click()
    expect(edge).not_to_have_attribute("stroke-width", by_requests)
    assert "measure=bytes" in page.url


def test_grouping_adds_up(page: Page):
    visit(page, "gs=namespace&gd=domain")
    expect(
        page.locator('.middle g.edge[aria-label*="example.com: let out unknown, 8 requests"]')
    ).to_have_count(1)
    sources = page.locator('ul[aria-label="Workloads"] button .name').all_inner_texts()
    assert sorted(text.strip() for text in sources) == ["pay", "shop"]


def test_an_edge_of_a_namespace_and_a_domain_opens(page: Page):
    visit(page, "gs=namespace&gd=domain")
    page.locator('.middle g.edge[aria-label*="example.com: let out unknown, 8 requests"]').press("Enter")
    expect(page.locator("#panel .facts").first).to_be_visible()
    assert amount(page, "Requests") == "8"


def test_an_edge_to_what_has_no_host_opens_also_grouped_by_domain(browser: Browser, deploy: Deploy):
    one = deploy()
    one.start_worker()
    one.produce(
        [
            line(
                number, f":{port}", upstream_cluster="PassthroughCluster", upstream_host=None,
                downstream_local_address=None,
            )
            for number, port in enumerate((80, 443, 443))
        ]
    )  # fmt: skip
    one.wait_for_messages(3)
    running = start_console(one.environment)
    opened, seen = open_page(browser, base_url=running.url)
    try:
        for groups in ("gd=domain", "gs=namespace&gd=domain"):
            visit(opened, groups)
            opened.locator('.middle g.edge[aria-label*="(no host): let out unknown, 3 requests"]').press(
                "Enter"
            )
            expect(opened.locator("#panel .facts").first).to_be_visible()
            assert amount(opened, "Requests") == "3"
        assert seen.complaints == []
    finally:
        opened.context.close()
        running.stop()


def test_the_graph_is_walked_with_arrow_keys(page: Page):
    visit(page)
    page.locator('.nodes [tabindex="0"]').focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.closest('.band') !== null")
    page.keyboard.press("ArrowLeft")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    expect(page.locator("#panel h2")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == focused


# --- the address --------------------------------------------------------------------------------------------


def test_filters_and_view_survive_a_reload_and_the_way_back(page: Page):
    visit(page)
    page.get_by_label("Namespace").fill("pay")
    page.get_by_label("Namespace").press("Enter")
    expect(page.locator(".middle g.edge")).to_have_count(1)
    page.get_by_role("link", name="Blocked").click()
    expect(page.locator("#view h1")).to_have_text("Blocked")
    page.reload()
    settled(page)
    expect(page.locator("#view h1")).to_have_text("Blocked")
    assert page.get_by_label("Namespace").input_value() == "pay"
    page.go_back()
    expect(page.locator("#view h1")).to_have_text("Overview")
    expect(page.locator(".middle g.edge")).to_have_count(1)
    page.go_back()
    expect(page.locator(".middle g.edge")).to_have_count(5)


def test_a_range_in_the_past_is_kept_in_the_address(page: Page):
    page.goto("?view=blocked&from=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z")
    settled(page)
    expect(page.locator(".empty")).to_contain_text("No blocked attempts in this range")
    page.reload()
    settled(page)
    assert page.locator('input[name="from"]').input_value() == "2020-01-01T00:00"


def test_the_theme_is_kept_in_the_browser(page: Page):
    visit(page, "view=pipeline")
    page.get_by_role("button", name="Theme: auto").click()
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


# --- what others wrote --------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["graph", "new", "events", "regions"])
def test_a_hostile_host_name_stays_text(page: Page, view: str):
    visit(page, f"view={view}")
    expect(page.locator("#view").get_by_text(SHOWN).first).to_be_attached()
    assert page.locator("main img, main script, #panel img, #panel script").count() == 0
    assert page.evaluate("'hacked' in window") is False


def test_a_hostile_host_name_stays_text_in_the_panel(page: Page):
    visit(page, "edge=" + json.dumps([None, "shop", "cart", None, "passthrough", HOSTILE, 80, None]))
    expect(page.locator("#panel h2")).to_contain_text(SHOWN)
    expect(page.locator("#panel details.sql")).to_be_attached()
    assert page.locator("#panel img, #panel script").count() == 0


def test_the_page_has_no_way_to_make_markup_of_text():
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    )
    sources = [*STATIC.rglob("*.js"), STATIC / "index.html"]
    assert [path.name for path in sources if forbidden.search(path.read_text())] == []


def test_all_modules_are_asked_for_at_once():
    modules = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js")} - {"main.js", "theme.js"}
    index = (STATIC / "index.html").read_text()
    assert set(re.findall(r'rel="modulepreload" href="static/(\S+)"', index)) == modules


def test_the_browser_itself_refuses_markup(browser: Browser, console: Console):
    page, seen = open_page(browser, base_url=console.url)
    page.goto("static/icon.svg")
    refused = (
        "() => { try { document.documentElement.innerHTML = '<g/>'; return false } catch { return true } }"
    )
    assert page.evaluate(refused) is True
    assert "TrustedHTML" in " ".join(seen.complaints)
    page.context.close()


# --- every view ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_passes_axe_in_light_and_dark_and_fits_a_phone(page: Page, view: str):
    visit(page, f"view={view}" + (f"&edge={json.dumps(KEY)}" if view == "graph" else ""))
    page.evaluate(AXE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    # Charts are drawn anew for the width.
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#trouble .problem").count() == 0


def test_on_a_phone_the_panel_alone_is_walked_through(page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page)
    page.locator(".band.blackhole button").click()
    expect(page.locator("#panel h2")).to_be_focused()
    assert page.locator("#main").evaluate("main => main.inert") is True
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".band.blackhole button")).to_be_focused()


def test_advice_is_copied_as_it_is(page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, "view=advice")
    card = page.locator(".card", has_text="rds.amazonaws.com").first
    card.get_by_role("button", name="Copy").click()
    expect(card.get_by_role("button", name="Copy")).to_have_text("Copied")
    copied = yaml.safe_load(page.evaluate("navigator.clipboard.readText()"))
    assert copied["kind"] == "ServiceEntry"
    assert copied["spec"]["hosts"] == ["db.abc.eu-west-1.rds.amazonaws.com"]


def test_a_destination_outside_the_home_region_is_said_to_break_the_policy(page: Page):
    visit(page, "view=regions")
    row = page.get_by_role("row", name=re.compile("rds.amazonaws.com"))
    expect(row).to_contain_text("out of region")
    expect(row).to_contain_text("violation")


def test_what_could_not_be_read_is_counted_by_its_reason(page: Page, deployed: Deployment):
    visit(page, "view=pipeline")
    ((reason, number),) = deployed.query("SELECT reason, count() FROM {db}.dead_letters GROUP BY reason")
    row = page.locator('table:has(caption:text-is("Could not be read, by reason")) tbody tr')
    assert row.locator("th").inner_text() == reason
    assert row.locator("td.number").inner_text() == str(number)


def test_a_table_is_sorted_by_its_headers(page: Page):
    visit(page)
    page.get_by_role("button", name="Requests", exact=True).last.click()
    column = page.locator('table:has(caption:text("Calls out of the mesh")) tbody tr td:nth-child(4)')
    counts = [int(text) for text in column.all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    assert "sort=-requests" in page.url


# --- live, and when things are missing ----------------------------------------------------------------------


def test_records_come_in_by_themselves_until_paused(page: Page, deployed: Deployment):
    page.clock.install()
    visit(page, "view=events&host=late.example", live="on")
    expect(page.locator(".empty")).to_be_visible()
    before = deployed.value("SELECT sum(messages) FROM {db}.progress")
    deployed.produce([named(900, "late.example", 443)])
    expect(page.locator("table.records tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Live").click()
    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    deployed.produce([named(901, "late.example", 443)])
    deployed.wait_for_messages(before + 2)
    page.clock.fast_forward(60_000)
    expect(page.locator("table.records tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Paused").click()
    page.clock.fast_forward(60_000)
    expect(page.locator("table.records tbody tr")).to_have_count(2)


def test_an_empty_store_says_how_logs_get_into_it(browser: Browser, deploy: Deploy):
    running = start_console(deploy().environment)
    opened, seen = open_page(browser, base_url=running.url)
    try:
        visit(opened)
        expect(opened.locator(".empty")).to_contain_text("No records yet")
        expect(opened.locator(".empty")).to_contain_text("egresslens ship")
        visit(opened, "view=pipeline")
        expect(opened.locator(".empty")).to_contain_text("egresslens worker")
        assert seen.complaints == []
    finally:
        opened.context.close()
        running.stop()


def test_a_store_that_is_away_is_a_problem_with_advice_and_comes_back(browser: Browser, deployed: Deployment):
    away = deployed.environment | {"EGRESSLENS_CLICKHOUSE_URL": f"http://127.0.0.1:{free_port()}"}
    running = start_console(away)
    opened, _ = open_page(browser, base_url=running.url)
    try:
        visit(opened)
        problem = opened.get_by_role("alert")
        expect(problem).to_contain_text("What to do")
        expect(problem.get_by_role("button", name="Try again")).to_be_visible()
        opened.evaluate(AXE)
        assert opened.evaluate("axe.run()")["violations"] == []
    finally:
        opened.context.close()
        running.stop()


def test_somebody_logs_in_looks_and_logs_out(browser: Browser, deployed: Deployment):
    passwords = deployed.folder / "people"
    passwords.write_text("ann:correct-horse-battery\n")
    passwords.chmod(0o600)
    running = start_console(deployed.environment | {"EGRESSLENS_CONSOLE_PASSWORD_FILE": str(passwords)})
    opened, _ = open_page(browser, base_url=running.url)
    try:
        opened.goto("")
        opened.get_by_label("User").fill("ann")
        opened.get_by_label("Password").fill("correct-horse-battery")
        opened.get_by_role("button", name="Log in").click()
        expect(opened.locator("#account")).to_contain_text("ann")
        opened.get_by_role("button", name="Log out").click()
        expect(opened.get_by_label("Password")).to_be_visible()
        opened.go_back()
        expect(opened.get_by_label("Password")).to_be_visible()
    finally:
        opened.context.close()
        running.stop()
