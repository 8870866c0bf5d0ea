"""Which hosts the store answers to."""

import pytest

from egresslens.store.serve import _hosts


@pytest.mark.parametrize(
    ("bound", "allowed", "host", "served"),
    [
        ("127.0.0.1", (), "localhost", True),
        ("127.0.0.1", (), "::1", True),
        ("127.0.0.1", (), "evil.example", False),
        ("127.0.0.1", (), "10.1.2.3", False),
        ("127.0.0.1", ("Store.internal",), "store.INTERNAL", True),
        ("10.1.2.3", (), "10.1.2.3", True),
        ("10.1.2.3", (), "10.1.2.4", False),
        ("0.0.0.0", (), "10.1.2.3", True),
        ("0.0.0.0", (), "store", False),
        ("0.0.0.0", (), "10.1.2.3.evil.example", False),
        ("::", (), "fd00::1", True),
    ],
)
def test_a_host_is_served_by_its_own_name_only(bound, allowed, host, served):
    assert _hosts(bound, allowed).serve(host) == served
