"""Hosts and addresses: whatever is written, one spelling comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egresslens import destination


@pytest.mark.parametrize(
    ("text", "host", "port", "is_address"),
    [
        ("example.com", "example.com", None, False),
        ("EXAMPLE.com:8443", "example.com", 8443, False),
        ("example.com.", "example.com", None, False),
        ("10.0.0.1:80", "10.0.0.1", 80, True),
        ("[2001:DB8::1]:443", "2001:db8::1", 443, True),
        ("2001:db8::1", "2001:db8::1", None, True),
        ("[::1]", "::1", None, True),
        ("host:99999", "host:99999", None, False),
        ("{authority}", "{authority}", None, False),
        ("a b", "a b", None, False),
        ("", None, None, False),
        (None, None, None, False),
    ],
)
def test_an_authority_is_read(text, host, port, is_address):
    assert destination.host_port(text) == (host, port, is_address)


@pytest.mark.parametrize(
    ("text", "ip", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[::1]:443", "::1", 443),
        ("tcp://10.0.0.1:80", "10.0.0.1", 80),
        ("envoy://connect_originate/10.12.138.94:8080", "10.12.138.94", 8080),
        ("envoy://internal_client_address/", None, None),
        ("/var/run/app.sock", None, None),
        ("10.0.0.1", "10.0.0.1", None),
        ("name:80", None, None),
        (None, None, None),
    ],
)
def test_an_address_is_read(text, ip, port):
    assert destination.address(text) == (ip, port)


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("outbound_.9080_._.reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local", 9080),
        ("outbound_.80_.v1_.reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local", 80),
        ("outbound_.80_.v1.reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local", 80),
        ("api.example.com", "api.example.com", None),
    ],
)
def test_a_server_name_is_read(name, host, port):
    assert destination.sni_host(name)[:2] == (host, port)


def test_istios_name_for_probe_ports_keeps_its_case():
    assert destination.normal_host("mgmtCluster") == "mgmtCluster"


@given(st.text(max_size=80))
def test_no_text_is_too_odd_for_a_host(text):
    found = destination.host_port(text)
    assert found.host is None or found.host == found.host.lower() or found.host == "mgmtCluster"


@given(st.text(max_size=80))
def test_no_text_is_too_odd_for_an_address(text):
    found = destination.address(text)
    assert found.port is None or 0 <= found.port <= 65535


@given(st.text(min_size=1, max_size=40))
def test_a_normal_host_stays_as_it_is(text):
    once = destination.normal_host(text)
    assert once is None or destination.normal_host(once) == once
