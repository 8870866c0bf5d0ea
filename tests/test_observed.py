"""Traffic, summed: what a proxy could read of it, from records and from windows."""

from datetime import datetime, timedelta, timezone

import polars as pl
import pytest

from egresslens import observed
from egresslens.record import SCHEMA

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def record(**given) -> dict:
    return {
        **dict.fromkeys(SCHEMA),
        "event_time": WHEN,
        "label": "passthrough",
        "hop": "sidecar",
        "source_workload": "cart",
        "source_ip": "10.0.0.1",
        "destination_host": "api.example.com",
        "destination_host_source": "authority",
        "destination_port": 443,
        "destination_ip": "192.0.2.1",
        "protocol": "HTTP/1.1",
        **given,
    }


def of(*rows: dict) -> list[dict]:
    return observed.of_records(pl.DataFrame(list(rows), schema=SCHEMA)).to_dicts()


@pytest.mark.parametrize(
    ("given", "traffic"),
    [
        ({}, "http"),
        ({"protocol": None}, "http"),
        ({"protocol": "HTTP/2", "destination_host_source": "registry"}, "http"),
        ({"protocol": None, "destination_host_source": "sni", "requested_server_name": "a"}, "tls"),
        ({"protocol": None, "destination_host_source": "registry", "requested_server_name": "a"}, "tls"),
        ({"protocol": None, "destination_host_source": "registry"}, "opaque"),
        ({"protocol": None, "destination_host_source": "address"}, "tcp"),
        ({"protocol": "HTTP/1.1", "destination_host_source": "address"}, "http"),
    ],
)
def test_a_record_says_what_the_proxy_could_read(given, traffic: str):
    assert [row["traffic"] for row in of(record(**given))] == [traffic]


def test_records_of_one_source_and_destination_are_one_row():
    [row] = of(
        record(),
        record(destination_ip="192.0.2.2", event_time=WHEN + timedelta(hours=1)),
        record(destination_ip=None),
    )
    assert (row["requests"], row["destination_ips"]) == (3, ["192.0.2.1", "192.0.2.2"])
    assert row["last_event"] - row["first_event"] == timedelta(hours=1)


def test_a_source_address_counts_only_where_no_workload_is_known():
    found = of(record(), record(source_workload=None))
    assert {(row["source_workload"], row["source_ip"]) for row in found} == {
        ("cart", None),
        (None, "10.0.0.1"),
    }


def test_gateways_records_are_left_out():
    assert of(record(hop="gateway")) == []


def test_records_that_do_not_say_which_proxy_wrote_them_count():
    assert len(of(record(hop=None))) == 1
