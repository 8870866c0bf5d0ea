"""The registry and its judgements in a real engine, joined to what was seen."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from clickhouse_rows import HOUR, Database, database, event, events, migrated, progress, window, windows
from egresslens.judge import JUDGED, Judges, judge
from egresslens.registry import store
from egresslens.registry.refresh import Refreshed, refresh
from egresslens.registry.value import Registries, Registry
from registries import context, entry, mesh, node, pod, registry, service

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)
LONG_AGO = "2020-01-01T00:00:00Z"


class Clock:
    """Each load a second later, long after what was seen."""

    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc).replace(microsecond=0)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Load = Callable[..., store.Changes]


@pytest.fixture
def load(database: Database, clock: Clock) -> Load:
    """`load(registry, partial=False)`: into the store, judging what was seen."""

    def act(given: Registry, *, partial: bool = False) -> store.Changes:
        changes = store.load(database.writer, database.settings, given, clock(), partial=partial)
        act_refresh()
        return changes

    def act_refresh(*, everything: bool = False) -> Refreshed:
        stored = store.read(database.reader, database.settings)
        return refresh(
            database.writer, database.settings, stored, Judges(stored), clock(), everything=everything
        )

    act.refresh = act_refresh  # type: ignore[attr-defined]
    return act


def see(database: Database, *rows: dict[str, Any]) -> None:
    """Windows that were seen; each at an offset of its own."""
    database.insert("raw_windows_1m", windows(*({**row, "last_offset": at} for at, row in enumerate(rows))))
    database.insert("raw_progress", progress(len(rows)))


def objects(database: Database) -> list[tuple[str, str, bool]]:
    rows = database.view("registry", "valid_from, kind, name")
    return [(row["kind"], row["name"], row["removed"]) for row in rows]


# --- objects and their history ------------------------------------------------------------------------------


def test_a_registry_is_read_as_it_was_loaded(database: Database, load: Load):
    given = registry(
        entry("net/api", "api.example.com", addresses=["192.0.2.1"], endpoints=[{"address": "192.0.2.2"}]),
        service("shop/web", "80/http", ip="10.96.0.1"),
        pod("shop/web-1", "10.0.0.1", app="web"),
        node("n1", "eu-west-1"),
        mesh(root_namespace="istio-config"),
        context(homes=[{"regions": ["eu-west-1"]}]),
        {"prefixes": [{"ip_prefix": "3.248.0.0/13", "region": "eu-west-1"}]},
        cluster="prod",
    )
    load(given)
    assert store.read(database.reader, database.settings).of("prod") == given


def test_a_load_that_changes_nothing_writes_nothing(database: Database, load: Load):
    given = registry(entry("net/api", "api.example.com"), pod("shop/web-1", "10.0.0.1", app="web"))
    assert load(given)
    assert not load(given)
    assert len(objects(database)) == 2


def test_changed_and_removed_objects_are_kept_as_they_were(database: Database, load: Load, clock: Clock):
    load(registry(entry("net/api", "a.example.com"), entry("net/old", "old.example.com")))
    between = clock()
    changes = load(registry(entry("net/api", "b.example.com")))
    assert changes == store.Changes((), (("ServiceEntry", "net", "api"),), (("ServiceEntry", "net", "old"),))
    now = store.read(database.reader, database.settings).of("")
    assert [one.spec.hosts for one in now.service_entries] == [("b.example.com",)]
    then = store.read(database.reader, database.settings, at=between).of("")
    assert [one.spec.hosts for one in then.service_entries] == [("a.example.com",), ("old.example.com",)]


def test_an_object_says_until_when_it_was_so(database: Database, load: Load):
    load(registry(entry("net/api", "a.example.com")))
    load(registry(entry("net/api", "b.example.com")))
    first, second = database.view("registry", "valid_from")
    assert first["valid_to"] == second["valid_from"]
    assert second["valid_to"] is None


def test_a_part_of_a_registry_removes_nothing(database: Database, load: Load):
    load(registry(entry("net/api", "a.example.com")))
    assert load(registry(entry("net/more", "b.example.com")), partial=True).removed == ()
    assert len(store.read(database.reader, database.settings).of("").service_entries) == 2


def test_clusters_do_not_remove_each_others_objects(database: Database, load: Load):
    load(registry(entry("net/api", "a.example.com"), cluster="one"))
    load(registry(entry("net/api", "b.example.com"), cluster="two"))
    read = store.read(database.reader, database.settings)
    assert [read.of(name).service_entries[0].spec.hosts[0][0] for name in ("one", "two")] == ["a", "b"]


def test_an_object_that_comes_back_is_there_again(database: Database, load: Load):
    given = registry(entry("net/api", "a.example.com"), entry("net/b", "b.example.com"))
    load(given)
    load(registry(entry("net/b", "b.example.com")))
    assert load(given).added == (("ServiceEntry", "net", "api"),)
    assert store.read(database.reader, database.settings).of("") == given


def test_nothing_secret_is_stored(database: Database, load: Load):
    given = pod("shop/web-1", "10.0.0.1", app="web")
    given["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "value": "s3cr3t"}]
    given["metadata"]["annotations"] = {"token": "s3cr3t"}
    load(registry(given))
    assert "s3cr3t" not in str(database.view("registry"))


# --- judgements beside what was seen ------------------------------------------------------------------------


def test_a_service_entry_added_today_changes_yesterdays_answers_and_nothing_stored(
    database: Database, load: Load
):
    see(database, window(destination_host="api.example.com", destination_host_source="sni"))
    stored = database.rows("SELECT * FROM {db}.raw_windows_1m FINAL")
    load(registry(entry("net/other", "other.example.com")))
    [before] = database.view("windows_1m")
    load(registry(entry("net/api", "api.example.com")))
    [after] = database.view("windows_1m")
    assert (before["service_entry"], before["service_entry_reason"]) == (None, "no entry for the host")
    assert after["service_entry"] == "net/api"
    assert database.rows("SELECT * FROM {db}.raw_windows_1m FINAL") == stored


SEEN = [
    window(
        destination_host="api.example.com", destination_host_source="sni", destination_ips=["93.184.216.34"]
    ),
    window(destination_host="api.example.com", destination_port=8443, destination_ips=[]),
    window(
        destination_host="web.shop.svc.cluster.local", destination_host_source="registry", destination_port=80
    ),
    window(
        destination_host="web.shop.svc.cluster.local",
        destination_host_source="authority",
        destination_port=80,
        destination_ips=["93.184.216.34"],
    ),
    window(
        destination_host="10.0.0.9",
        destination_host_source="address",
        destination_port=5432,
        destination_ips=[],
    ),
    window(destination_host="db.corp", destination_host_source="sni", destination_ips=["10.9.9.9"]),
    window(destination_host="s3.eu-west-1.amazonaws.com", destination_ips=["3.249.1.1", "52.1.1.1"]),
    window(destination_host="s3.eu-west-1.amazonaws.com", destination_ips=["203.0.113.1"]),
    window(
        destination_host="s3.eu-west-1.amazonaws.com", destination_ips=["52.1.1.1"], source_namespace="pay"
    ),
    window(destination_host="placed.example.com", destination_ips=["52.1.1.1"]),
    window(destination_host="twice.example.com", destination_ips=[]),
    window(destination_host="printer", destination_host_source="authority", destination_ips=[]),
    window(destination_host="vip.example.com", destination_ips=["240.240.0.1"]),
    window(
        destination_host="(other)", destination_host_source="other", destination_port=None, destination_ips=[]
    ),
    window(destination_host=None, destination_host_source=None, destination_port=None, destination_ips=[]),
    window(
        destination_host="api.example.com",
        source_namespace=None,
        source_workload=None,
        source_ip="10.0.0.1",
        destination_ips=["93.184.216.34"],
    ),
]
KNOWN = registry(
    entry("net/api", "api.example.com", export_to=["web", "shop"]),
    entry("net/pay", "*.amazonaws.com", export_to=["pay"]),
    entry(
        "net/twice",
        "twice.example.com",
        endpoints=[{"address": "a.b", "locality": "x-1"}, {"address": "a.c", "locality": "y-1"}],
    ),
    service("shop/web", "80/http", ip="10.96.0.1"),
    pod("shop/web-1", "10.0.0.1", app="web", started=LONG_AGO),
    node("n1", "eu-west-1"),
    context(
        networks=[{"cidr": "10.9.0.0/16", "name": "office", "region": "dublin"}],
        hosts=[{"host": "placed.example.com", "region": "moon-1", "scope": "private", "kind": "ledger"}],
    ),
    {
        "prefixes": [
            {"ip_prefix": "3.248.0.0/13", "region": "eu-west-1"},
            {"ip_prefix": "52.0.0.0/11", "region": "us-east-1"},
        ]
    },
)


@pytest.mark.parametrize("view", ["windows_1m", "windows_1h", "windows_1d"])
def test_the_views_judge_as_python_does(database: Database, load: Load, view: str):
    see(database, *({**row, "response_code": at} for at, row in enumerate(SEEN)))
    load(KNOWN)
    found = pl.DataFrame(database.view(view, "response_code"), infer_schema_length=None)
    known = found.drop(*JUDGED).with_columns(
        pl.coalesce("source_namespace", "source_ip_namespace").alias("source_namespace")
    )
    expected = judge(known, Judges(Registries([KNOWN])))
    assert found.select(*JUDGED).to_dicts() == expected.select(*JUDGED).to_dicts()


def test_events_are_judged_by_their_own_address(database: Database, load: Load):
    given = [
        event(
            at,
            source_cluster="prod",
            source_namespace="web",
            destination_host="cdn.example.com",
            destination_host_source="sni",
            destination_port=443,
            destination_ip=ip,
        )
        for at, ip in enumerate(["3.249.1.1", "52.1.1.1", None])
    ]
    database.insert("raw_events", events(*given))
    see(database, window(destination_host="cdn.example.com", destination_ips=["3.249.1.1", "52.1.1.1"]))
    load(KNOWN)
    assert [row["destination_region"] for row in database.view("events", "offset")] == [
        "eu-west-1",
        "us-east-1",
        None,
    ]


def test_destinations_are_judged_by_their_names(database: Database, load: Load):
    see(database, window(destination_host="api.example.com", destination_ips=["93.184.216.34"]))
    load(registry(entry("net/api", "api.example.com")))
    [row] = database.view("destinations")
    assert (row["service_entry"], row["destination_scope"]) == ("net/api", "external")


def test_what_was_not_judged_yet_says_so_and_is_by_the_next_refresh(database: Database, load: Load):
    load(registry(entry("net/api", "api.example.com")))
    see(database, window(destination_host="api.example.com", destination_ips=[]))
    [before] = database.view("windows_1m")
    assert (before["destination_scope"], before["destination_scope_reason"]) == ("unknown", "not judged yet")
    assert load.refresh() == Refreshed(1, 0, 1)  # type: ignore[attr-defined]
    [after] = database.view("windows_1m")
    assert after["service_entry"] == "net/api"


def test_what_is_judged_by_its_address_alone_is_not_judged_yet(database: Database, load: Load):
    load(registry(entry("net/api", "api.example.com", location="MESH_INTERNAL")))
    see(database, window(destination_host="api.example.com", destination_ips=["93.184.216.34"]))
    load.refresh()  # type: ignore[attr-defined]
    # As a reader finds it before the names are written, which are last.
    database.writer.command(f"TRUNCATE TABLE {database.settings.database}.raw_judgements")
    [row] = database.view("windows_1m")
    assert (row["destination_scope"], row["destination_scope_reason"]) == ("unknown", "not judged yet")


def test_a_refresh_judges_only_what_is_new(database: Database, load: Load):
    see(database, window(destination_host="api.example.com"))
    load(registry(entry("net/api", "api.example.com")))
    assert load.refresh() == Refreshed(0, 0, 0)  # type: ignore[attr-defined]
    assert load.refresh(everything=True).destinations == 1  # type: ignore[attr-defined]


def test_judgements_older_than_the_registry_are_made_anew(database: Database, load: Load, clock: Clock):
    see(database, window(destination_host="api.example.com"))
    load(registry(entry("net/api", "api.example.com")))
    # A load that was interrupted before it judged.
    store.load(database.writer, database.settings, registry(entry("net/new", "api.example.com")), clock())
    assert load.refresh().destinations == 1  # type: ignore[attr-defined]
    assert database.view("windows_1m")[0]["service_entry"] == "net/new"


# --- pods and homes -----------------------------------------------------------------------------------------


def bare(minute: int, ip: str = "10.0.0.1") -> dict[str, Any]:
    start = HOUR + timedelta(minutes=minute)
    return window(
        window_start=start, source_namespace=None, source_workload=None, source_ip=ip, source_cluster=None
    )


def test_the_workload_behind_a_bare_address_is_the_pod_that_had_it_then(database: Database, load: Load):
    see(database, bare(0), bare(10), bare(20, ip="10.0.0.2"), window(source_ip=None))
    later = (HOUR + timedelta(minutes=5)).isoformat()
    load(
        registry(
            pod("shop/web-1", "10.0.0.1", app="web", started=LONG_AGO),
            pod("pay/api-1", "10.0.0.1", app="api", started=later),
        )
    )
    rows = database.view("windows_1m", "window_start, source_ip")
    assert [(row["source_ip_namespace"], row["source_ip_workload"]) for row in rows if row["source_ip"]] == [
        ("shop", "web"),
        ("pay", "api"),
        (None, None),
    ]
    assert [row["source_ip_workload"] for row in rows if not row["source_ip"]] == [None]


def test_what_an_address_called_before_a_pod_had_it_is_judged(database: Database, load: Load):
    see(database, {**bare(0), "destination_host": "api.example.com"})
    later = (HOUR + timedelta(minutes=5)).isoformat()
    load(registry(entry("net/api", "api.example.com"), pod("pay/api-1", "10.0.0.1", started=later)))
    [row] = database.view("windows_1m")
    assert (row["source_ip_namespace"], row["service_entry"]) == (None, "net/api")


def test_a_pod_that_is_gone_had_its_address_until_then(database: Database, load: Load, clock: Clock):
    clock.now = HOUR
    load(registry(pod("shop/web-1", "10.0.0.1", app="web", started=LONG_AGO)))
    clock.now = HOUR + timedelta(minutes=5)
    load(registry(pod("shop/web-2", "10.0.0.9", app="web", started=LONG_AGO)))
    clock.now = datetime.now(timezone.utc)
    see(database, bare(0), bare(10))
    load.refresh()  # type: ignore[attr-defined]
    assert [row["source_ip_workload"] for row in database.view("windows_1m", "window_start")] == ["web", None]
    assert [row["valid_to"] is None for row in database.view("pods", "address")] == [False, True]


def test_the_namespace_behind_an_address_decides_what_is_seen(database: Database, load: Load):
    see(database, {**bare(0), "destination_host": "api.example.com"})
    load(
        registry(
            pod("shop/web-1", "10.0.0.1", app="web", started=LONG_AGO),
            entry("net/api", "api.example.com", export_to=["shop"]),
        )
    )
    assert database.view("windows_1m")[0]["service_entry"] == "net/api"


def test_homes_are_where_pods_are_or_where_envelopes_say(database: Database, load: Load):
    see(
        database,
        window(source_workload="web"),
        window(source_workload="other"),
        window(source_workload="nowhere"),
    )
    now = datetime.now(timezone.utc)
    database.insert(
        "raw_events",
        events(
            event(
                source_cluster="prod",
                source_namespace="web",
                source_workload="other",
                source_region="EU-West-3",
                kafka_timestamp=now,
            )
        ),
    )
    load(registry(pod("web/web-1", "10.0.0.1", app="web"), node("n1", "eu-west-1")))
    homes = {row["source_workload"]: (row["regions"], row["reason"]) for row in database.view("homes")}
    assert homes == {
        "web": (["eu-west-1"], "labels of its pods' nodes"),
        "other": (["eu-west-3"], "region in its records' envelopes"),
        "nowhere": ([], None),
    }
