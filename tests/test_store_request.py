"""Inserts as clients write them, and what a request's parameters mean."""

import pytest

from egresslens.store import request
from egresslens.store.errors import StoreError


@pytest.mark.parametrize(
    ("text", "table", "columns", "name", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", ("t",), (), "CSV", b"1,2"),
        (b"insert into d.t format CSV\r\n1", ("d", "t"), (), "CSV", b"1"),
        (b"INSERT INTO TABLE t FORMAT Native\n\x01\x00", ("t",), (), "Native", b"\x01\x00"),
        (b"INSERT INTO t (a, b) FORMAT CSV\n", ("t",), ("a", "b"), "CSV", b""),
        (b"INSERT INTO t(`a`,b)FORMAT CSV\n1", ("t",), ("a", "b"), "CSV", b"1"),
        (b"INSERT INTO `d`.`t` (`n.x`, n.y) FORMAT CSV 1", ("d", "t"), ("n.x", "n.y"), "CSV", b"1"),
        (b'INSERT INTO "d"."t" FORMAT CSV', ("d", "t"), (), "CSV", b""),
        (b"INSERT INTO `a``b` FORMAT CSV\n", ("a`b",), (), "CSV", b""),
        (b"INSERT INTO `a\\`b` FORMAT CSV\n", ("a`b",), (), "CSV", b""),
        (b"-- why\n/* what */ INSERT /**/ INTO t\nFORMAT CSV\n1", ("t",), (), "CSV", b"1"),
        (b"INSERT INTO t VALUES (1), ('a')", ("t",), (), "Values", b" (1), ('a')"),
        (b"INSERT INTO t (a) VALUES(1)", ("t",), ("a",), "Values", b"(1)"),
        (b"INSERT INTO t FORMAT CSV\n\nFORMAT TSV\n", ("t",), (), "CSV", b"\nFORMAT TSV\n"),
        (b"INSERT INTO values FORMAT CSV\n", ("values",), (), "CSV", b""),
    ],
)
def test_an_insert_with_data_is_taken_apart(text, table, columns, name, data):
    found = request.insert(text)
    assert found is not None
    assert (found.table, found.columns, found.input_format, found.data) == (table, columns, name, data)


def test_settings_of_an_insert_are_read():
    found = request.insert(b"INSERT INTO t (a) SETTINGS async_insert = 0, x='y', z=-1.5 FORMAT CSV\n1")
    assert found is not None
    assert found.settings == {"async_insert": "0", "x": "y", "z": "-1.5"}
    assert found.data == b"1"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1",
        b"INSERT INTO t SELECT 1 FORMAT CSV\n",
        b"INSERT INTO t (a) SELECT 1",
        b"INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
        b"INSERT INTO FUNCTION file('x') FORMAT CSV\n1",
        b"INSERT INTO TABLE FUNCTION file('x') FORMAT CSV\n1",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"INSERT INTO t (* EXCEPT(a)) FORMAT CSV\n1",
        b"INSERT INTO a.b.c FORMAT CSV\n1",
        b"INSERT INTO t FORMAT",
        b"INSERT INTO t FORMAT {f:String}",
        b"INSERT INTO {t:Identifier} FORMAT CSV\n1",
        b"INSERT INTO t SETTINGS x = (SELECT 1) FORMAT CSV\n1",
        b"INSERT INTO t (a FORMAT CSV\n1",
        b"INSERTINTO t FORMAT CSV",
        b"WITH 1 AS x INSERT INTO t FORMAT CSV",
    ],
)
def test_everything_else_is_left_to_the_engines_parser(text):
    assert request.insert(text) is None


@pytest.mark.parametrize("filler", [b" ", b"(", b"a,", b"/*", b"--", b"`", b"a.", b"x=1,", b"\n", b"'"])
def test_a_hostile_head_is_read_in_linear_time(filler):
    for start in (b"", b"INSERT INTO t", b"INSERT INTO t (a", b"INSERT INTO t SETTINGS x=1 "):
        request.insert(start + filler * 200_000)


def options(headers=None, **values):
    return request.options(values, headers or {})


def test_what_is_no_parameter_of_http_is_a_setting():
    asked = options(query="SELECT 1", max_threads="3", param_x="a", wait_end_of_query="1", buffer_size="100")
    assert asked.settings == {"max_threads": "3"}
    assert asked.parameters == {"x": "a"}
    assert asked.wait
    assert not asked.compress


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"compress": "1"}, 344),
        ({"decompress": "1"}, 344),
        ({"role": "admin"}, 344),
        ({"database": "system"}, 291),
        ({"database": "SYSTEM"}, 291),
        ({"query_id": "a\nb"}, 408),
        ({"ext_structure": "x UInt8", "ext_format": "CSV"}, 344),
    ],
)
def test_what_cannot_be_served_is_refused(values, code):
    with pytest.raises(StoreError) as raised:
        options(**values)
    assert raised.value.code == code
