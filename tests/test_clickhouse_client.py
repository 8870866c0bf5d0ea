"""How clients are made from settings."""

import pytest

from egresslens.clickhouse.client import is_loopback, request_settings
from egresslens.settings import Settings


def test_an_insert_is_acknowledged_when_it_is_written():
    assert request_settings(Settings(), "writer")["async_insert"] == 0


def test_on_a_cluster_an_insert_waits_for_a_quorum_of_replicas():
    sent = request_settings(Settings(cluster="main"), "writer")
    assert (sent["distributed_foreground_insert"], sent["insert_quorum"], sent["async_insert"]) == (
        1,
        "auto",
        0,
    )


def test_on_a_single_server_no_quorum_is_asked_for():
    assert "insert_quorum" not in request_settings(Settings(), "writer")


def test_a_reader_sends_no_settings_so_that_a_read_only_profile_takes_it():
    assert request_settings(Settings(cluster="main"), "reader") == {}


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8123", True),
        ("http://localhost:8123", True),
        ("http://[::1]:8123", True),
        ("https://clickhouse.example.com", False),
        ("http://10.0.0.1:8123", False),
    ],
)
def test_only_what_leaves_this_machine_is_compressed(url: str, loopback: bool):
    assert is_loopback(Settings(clickhouse_url=url)) is loopback
