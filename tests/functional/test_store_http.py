"""The HTTP interface itself: accounts, hosts, methods, encodings, errors, limits, sessions."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
import uuid
import zlib
from urllib.parse import urlsplit

import pytest
import zstandard

from functional.deployment import until
from functional.store_fixture import ask

pytestmark = pytest.mark.functional

JSON_MEDIA_TYPE = "application/json; charset=UTF-8"


def rows(store, table: str) -> int:
    return int(ask(store, f"SELECT count() FROM {table}").text)


def begun_insert(store, table: str, first: bytes, size: int) -> http.client.HTTPConnection:
    """An insert of `size` bytes, of which the first are sent."""
    address = urlsplit(store.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.putrequest("POST", f"/?query=INSERT+INTO+{table}+FORMAT+TSV")
    for name, value in (
        ("X-ClickHouse-User", "writer"),
        ("X-ClickHouse-Key", store.writer[1]),
        ("Content-Length", str(size)),
    ):
        connection.putheader(name, value)
    connection.endheaders(first)
    return connection


@pytest.fixture
def table(store) -> str:
    name = f"t.h{uuid.uuid4().hex[:12]}"
    assert ask(store, f"CREATE TABLE {name} (x UInt32) ENGINE = MergeTree ORDER BY x").status == 200
    return name


# Accounts


def test_ping_needs_no_password(store):
    answered = ask(store, method="GET", headers={"Authorization": ""})
    assert (answered.status, answered.text) == (200, "Ok.\n")


def test_a_query_without_a_password_is_refused(store):
    answered = ask(store, "SELECT 1", headers={"Authorization": ""})
    assert (answered.status, answered.code) == (401, 194)
    assert answered.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "account", [("writer", "wrong"), ("writer", ""), ("reader", "wrong"), ("default", ""), ("", "")]
)
def test_a_wrong_password_is_refused(store, account):
    answered = ask(store, "SELECT 1", account=account)
    assert (answered.status, answered.code) == (403, 516)
    assert "wrong" not in answered.text


def test_one_accounts_password_does_not_open_the_other(store):
    assert ask(store, "SELECT 1", account=("writer", store.reader[1])).code == 516
    assert ask(store, "SELECT 1", account=("reader", store.writer[1])).code == 516


def test_clickhouses_headers_carry_user_and_password(store):
    headers = {"Authorization": "", "X-ClickHouse-User": "reader", "X-ClickHouse-Key": store.reader[1]}
    assert ask(store, "SELECT 1", headers=headers).text == "1\n"
    assert ask(store, "SELECT 1", headers={**headers, "X-ClickHouse-Key": "wrong"}).code == 516


def test_the_url_carries_user_and_password(store):
    no_header = {"Authorization": ""}
    assert ask(store, "SELECT 1", headers=no_header, user="reader", password=store.reader[1]).text == "1\n"
    assert ask(store, "SELECT 1", headers=no_header, user="reader", password="wrong").code == 516


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic ////", "Bearer abc", "Basic d3JpdGVy"])
def test_broken_authorization_is_refused(store, value):
    assert ask(store, "SELECT 1", headers={"Authorization": value}).code in (194, 516)


# Hosts and origins


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "a@[", "169.254.1.1"]
)
def test_a_name_that_is_not_the_stores_is_refused(store, host):
    answered = ask(store, "SELECT 1", headers={"Host": host})
    assert answered.status == 403


def test_ping_is_answered_by_any_name(store):
    address = urlsplit(store.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("GET", "/ping", headers={"Host": "10.1.2.3:8123"})  # as a health check comes
    assert connection.getresponse().read() == b"Ok.\n"
    connection.close()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8123", "127.0.0.1", "[::1]:8123"])
def test_the_loopbacks_names_are_served(store, host):
    assert ask(store, "SELECT 1", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "file://", ""]
)
def test_a_page_of_another_origin_is_refused(store, origin):
    address = urlsplit(store.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("POST", "/", body="SELECT 1", headers={"Origin": origin})
    assert connection.getresponse().status == 403
    connection.close()


def test_no_other_origin_is_invited(store):
    answered = ask(store, "SELECT 1", add_http_cors_header=1, headers={"Origin": "http://localhost:3000"})
    assert not any(name.lower().startswith("access-control") for name in answered.headers)


# Methods, texts and parameters


def test_get_reads(store):
    assert ask(store, method="GET", query="SELECT 1 + 1").text == "2\n"


def test_get_does_not_write(store, table):
    for sql in (f"DROP TABLE {table}", f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} SELECT 1"):
        assert ask(store, method="GET", query=sql).code == 164
    assert rows(store, table) == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_not_answered(store, method):
    assert ask(store, "SELECT 1", method=method).status == 501


def test_the_urls_text_comes_before_the_bodys(store):
    assert ask(store, "+ 2", query="SELECT 1").text == "3\n"


def test_an_insert_takes_its_data_from_the_body(store, table):
    answered = ask(store, b"1\n2\n3\n", query=f"INSERT INTO {table} FORMAT TSV")
    assert json.loads(answered.headers["X-ClickHouse-Summary"])["written_rows"] == "3"
    assert rows(store, table) == 3


def test_data_may_follow_the_statement_in_the_url(store, table):
    assert ask(store, b"(2), (3)", query=f"INSERT INTO {table} VALUES (1), ").status == 200
    assert rows(store, table) == 3


def test_a_body_larger_than_the_first_read_is_inserted_whole(store, table):
    body = b"".join(b"%d\n" % number for number in range(500_000))
    assert ask(store, f"INSERT INTO {table} FORMAT TSV\n".encode() + body).status == 200
    assert rows(store, table) == 500_000


def test_a_multipart_form_carries_text_and_parameters(store):
    parts = {"query": "SELECT {v:String}", "param_v": "it's"}
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    answered = ask(store, body + "--b--\r\n", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answered.text == "it\\'s\n"


def test_a_file_in_a_form_is_refused(store):
    body = '--b\r\nContent-Disposition: form-data; name="m"; filename="m"\r\n\r\n1\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert ask(store, body, headers=headers, query="SELECT 1").code == 344


def test_an_url_encoded_body_is_not_a_form(store):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl -d sends
    assert ask(store, "SELECT 1", headers=headers).text == "1\n"


def test_a_text_that_is_not_utf8_is_refused(store):
    assert ask(store, b"SELECT '\xff'").code == 62


def test_the_format_comes_from_the_statement_then_the_url_then_the_header(store):
    header = {"X-ClickHouse-Format": "CSV"}
    assert ask(store, "SELECT 1, 'a' FORMAT JSONCompactEachRow", default_format="CSV").text == '[1, "a"]\n'
    assert (
        ask(store, "SELECT 1, 'a'", default_format="JSONCompactEachRow", headers=header).text == '[1, "a"]\n'
    )
    assert ask(store, "SELECT 1, 'a'", headers=header).text == '1,"a"\n'
    assert ask(store, "SELECT 1, 'a'").text == "1\ta\n"


def test_headers_say_what_came(store):
    answered = ask(store, "SELECT number FROM numbers(10) FORMAT JSON", query_id="my-id")
    assert answered.headers["X-ClickHouse-Query-Id"] == "my-id"
    assert answered.headers["X-ClickHouse-Format"] == "JSON"
    assert answered.headers["Content-Type"] == JSON_MEDIA_TYPE
    summary = json.loads(answered.headers["X-ClickHouse-Summary"])
    assert (summary["result_rows"], summary["read_rows"]) == ("10", "10")


def test_a_format_cannot_split_headers(store):
    assert ask(store, "SELECT 1", default_format="CSV\r\nX-Evil: 1").code == 73


def test_a_query_id_cannot_split_headers(store):
    assert ask(store, "SELECT 1", query_id="a\r\nX-Evil: 1").code == 408


# Errors


@pytest.mark.parametrize(
    ("sql", "status", "code", "name"),
    [
        ("SELEC 1", 400, 62, "SYNTAX_ERROR"),
        ("SELECT nosuch", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM t.nosuch", 404, 60, "UNKNOWN_TABLE"),
        ("SELECT * FROM nosuch.t", 404, 81, "UNKNOWN_DATABASE"),
        ("SELECT toUInt8('x')", 400, 6, "CANNOT_PARSE_TEXT"),
        ("SELECT throwIf(1)", 500, 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1 FORMAT Nosuch", 404, 73, "UNKNOWN_FORMAT"),
        ("SELECT 1 FORMAT DataFrame", 404, 73, "UNKNOWN_FORMAT"),
        ("INSERT INTO t.x FORMAT Nosuch\n1", 404, 73, "UNKNOWN_FORMAT"),
        ("SELECT 1 INTO OUTFILE 'x'", 500, 358, "INTO_OUTFILE_NOT_ALLOWED"),
        ("SYSTEM FLUSH LOGS", 403, 497, "ACCESS_DENIED"),
    ],
)
def test_an_error_has_clickhouses_status_code_and_words(store, sql, status, code, name):
    answered = ask(store, sql)
    assert (answered.status, answered.code) == (status, code)
    assert answered.text.startswith(f"Code: {code}. DB::Exception: ")
    assert f"({name})" in answered.text


def test_an_insert_of_broken_data_says_so_and_inserts_nothing(store, table):
    answered = ask(store, f"INSERT INTO {table} FORMAT JSONEachRow\n" + '{"x": 1}\n{"x": broken}\n')
    assert (answered.status, answered.code) == (400, 27)
    assert rows(store, table) == 0


@pytest.mark.parametrize(
    ("clause", "code"),
    [
        ("ENGINE = MergeTree ORDER BY n PARTITION BY n", 252),
        ("ENGINE = MergeTree ORDER BY n", 0),
        ("CONSTRAINT few CHECK n < 100", 469),
    ],
)
def test_an_insert_that_fails_while_its_blocks_are_written_says_so(store, clause: str, code: int):
    """The engine itself acknowledges it, without a row."""
    name = f"t.w{uuid.uuid4().hex}"
    within, engine = (f", {clause}", "ENGINE = MergeTree ORDER BY n") if "CHECK" in clause else ("", clause)
    assert ask(store, f"CREATE TABLE {name} (n UInt32{within}) {engine}").status == 200
    body = b"".join(b"%d\n" % number for number in range(200))
    answer = ask(store, body, query=f"INSERT INTO {name} FORMAT TSV")
    assert answer.code == code, answer.text
    assert rows(store, name) == (0 if code else 200)
    assert ask(store, b"7\n", query=f"INSERT INTO {name} FORMAT TSV").status == 200


def test_an_insert_does_not_answer_for_what_fails_beside_it(store, table):
    body = b"1\n" * 500_000
    connection = begun_insert(store, table, body[:-100], len(body))
    inserts = (
        f"SELECT count() FROM system.processes WHERE query ILIKE '%insert into%{table.removeprefix('t.')}%'"
    )
    until(
        lambda: ask(store, f"{inserts} AND query NOT ILIKE '%processes%'").text == "1\n",
        "the insert has begun",
        10,
    )
    assert ask(store, "SELECT toInt32('q')").code == 6
    connection.send(body[-100:])
    with connection.getresponse() as answer:
        assert answer.status == 200, answer.read()
    connection.close()
    assert rows(store, table) == 500_000


def test_an_insert_into_no_table_is_answered_before_its_data_ends(store):
    body = b"INSERT INTO t.nosuch FORMAT TSV\n" + b"1\n" * 4_000_000
    assert ask(store, body).code == 60


def test_an_error_in_the_middle_is_told_as_clickhouse_tells_it(store):
    answered = ask(
        store, "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000"
    )
    tag = answered.headers["X-ClickHouse-Exception-Tag"]
    assert answered.status == 200
    _, head, block = answered.body.rpartition(b"\r\n__exception__\r\n" + tag.encode() + b"\r\nCode: 395")
    assert head
    assert block.endswith(tag.encode() + b"\r\n__exception__\r\n")


def test_a_query_waited_for_has_a_status_also_for_a_late_error(store):
    sql = "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000"
    assert ask(store, sql, wait_end_of_query=1).code == 395


# Encodings


@pytest.mark.parametrize(
    ("accepted", "name", "decode"),
    [
        ("gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("br, gzip;q=0.5", "gzip", gzip.decompress),
        ("zstd, gzip", "zstd", lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
    ],
)
def test_a_response_is_compressed_when_asked_for(store, accepted, name, decode):
    sql = "SELECT number FROM numbers(100000)"
    answered = ask(store, sql, enable_http_compression=1, headers={"Accept-Encoding": accepted})
    assert answered.headers["Content-Encoding"] == name
    assert decode(answered.body).count(b"\n") == 100_000


def test_a_response_is_not_compressed_unless_asked_for(store):
    assert "Content-Encoding" not in ask(store, "SELECT 1", headers={"Accept-Encoding": "gzip"}).headers
    assert "Content-Encoding" not in ask(store, "SELECT 1", enable_http_compression=1).headers


def test_a_compressed_statement_is_read(store):
    assert ask(store, gzip.compress(b"SELECT 2"), headers={"Content-Encoding": "gzip"}).text == "2\n"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4", "deflate"])
def test_a_broken_body_is_refused(store, encoding):
    assert ask(store, b"SELECT 1, not compressed", headers={"Content-Encoding": encoding}).code == 271


def test_a_body_cut_short_inserts_nothing(store, table):
    body = gzip.compress(b"".join(b"%d\n" % number for number in range(100_000)))
    cut = ask(
        store, body[:-100], query=f"INSERT INTO {table} FORMAT TSV", headers={"Content-Encoding": "gzip"}
    )
    assert cut.code == 271
    assert rows(store, table) == 0


def test_an_unknown_encoding_is_refused(store):
    assert ask(store, b"SELECT 1", headers={"Content-Encoding": "snappy"}).code == 89


def test_a_small_body_cannot_become_a_large_one(store):
    bomb = zstandard.compress(b"SELECT 1 -- " + b" " * 200_000_000)
    assert len(bomb) < 50_000
    assert ask(store, bomb, headers={"Content-Encoding": "zstd"}).code == 229


# Limits


def test_a_statement_too_long_is_refused(store):
    answered = ask(store, "SELECT 1 -- " + "x" * 2_000_000)
    assert (answered.status, answered.code) == (413, 229)


def test_a_query_that_takes_too_much_memory_ends_alone(store):
    answered = ask(store, "SELECT groupArray(number) FROM numbers(10000000)", max_memory_usage=10_000_000)
    assert answered.code == 241
    assert ask(store, "SELECT 1").text == "1\n"


def test_a_query_that_takes_too_long_ends(store):
    answered = ask(store, "SELECT count() FROM numbers(100000000000) WHERE rand() = 1", max_execution_time=1)
    assert (answered.status, answered.code) == (408, 159)


def test_a_client_that_goes_away_stops_its_query(store):
    address = urlsplit(store.url)
    for _ in range(20):  # more than there are places for
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request(
            "POST",
            "/",
            body="SELECT number FROM numbers(10000000000)",
            headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": store.reader[1]},
        )
        assert connection.getresponse().read(10)
        connection.close()
    assert ask(store, "SELECT 1", account=store.reader).text == "1\n"


def test_a_client_that_goes_away_in_its_insert_inserts_nothing(store, table):
    connection = begun_insert(store, table, b"1\n" * 1000, 1_000_000)
    connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # The place it took is free again when its handle is: as many as there are places must fit.
        if all(ask(store, "SELECT 1").status == 200 for _ in range(3)):
            break
    assert rows(store, table) == 0


# Sessions


def test_a_session_keeps_what_set_chose(store):
    session = uuid.uuid4().hex
    assert ask(store, "SET max_threads = 3", session_id=session).status == 200
    assert ask(store, "SELECT getSetting('max_threads')", session_id=session).text == "3\n"
    assert ask(store, "SELECT getSetting('max_threads')").text != "3\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_block_size", 777),
        ("max_threads", 3),
        ("max_execution_time", 7),
        ("max_memory_usage", 77_777_777),
        ("join_algorithm", "hash"),
        ("log_comment", "mine"),
        ("final", 1),
    ],
)
def test_a_requests_settings_do_not_stay_in_its_session(store, name, value):
    session = uuid.uuid4().hex
    sql = f"SELECT value FROM system.settings WHERE name = '{name}'"
    before = ask(store, sql, session_id=session).text
    assert before != ask(store, sql, session_id=session, **{name: value}).text == f"{value}\n"
    assert ask(store, sql, session_id=session).text == before


def test_a_requests_setting_goes_over_the_sessions_and_the_sessions_comes_back(store):
    session = uuid.uuid4().hex
    ask(store, "SET max_block_size = 555", session_id=session)
    assert (
        ask(store, "SELECT getSetting('max_block_size')", session_id=session, max_block_size=777).text
        == "777\n"
    )
    assert ask(store, "SELECT getSetting('max_block_size')", session_id=session).text == "555\n"


def test_a_refused_set_leaves_its_session_usable(store):
    session = uuid.uuid4().hex
    assert ask(store, "SET max_memory_usage = 0", session_id=session).code == 452
    assert ask(store, "SET max_threads = 3, max_memory_usage = 0", session_id=session).code == 452
    assert ask(store, "SELECT getSetting('max_threads') = 3", session_id=session).text == "0\n"


def test_a_failed_request_leaves_its_session_usable(store):
    session = uuid.uuid4().hex
    assert ask(store, "SELECT nosuch", session_id=session, max_block_size=777).code == 47
    assert ask(store, "INSERT INTO t.nosuch FORMAT CSV\n1\n", session_id=session).code == 60
    assert ask(store, "SELECT getSetting('max_block_size') = 777", session_id=session).text == "0\n"


def test_a_session_keeps_temporary_tables(store):
    session = uuid.uuid4().hex
    assert ask(store, "CREATE TEMPORARY TABLE mine (x Int8)", session_id=session).status == 200
    assert ask(store, "INSERT INTO mine VALUES (1)", session_id=session).status == 200
    assert ask(store, "SELECT x FROM mine", session_id=session).text == "1\n"
    assert ask(store, "SELECT x FROM mine").code in (60, 497)


def test_a_session_belongs_to_its_account(store):
    session = uuid.uuid4().hex
    assert ask(store, "SET max_threads = 3", session_id=session).status == 200
    answered = ask(store, "SELECT 1", session_id=session, session_check=1, account=store.reader)
    assert answered.code == 372


def test_the_readers_session_cannot_be_made_to_write(store, table):
    session = uuid.uuid4().hex
    assert ask(store, "SET readonly = 0", session_id=session, account=store.reader).code == 452
    assert ask(store, f"INSERT INTO {table} VALUES (1)", session_id=session, account=store.reader).code == 164


def test_a_closed_session_is_gone(store):
    session = uuid.uuid4().hex
    assert ask(store, "SELECT 1", session_id=session, close_session=1).status == 200
    assert ask(store, "SELECT 1", session_id=session, session_check=1).code == 372


def test_a_session_in_use_is_locked(store):
    session = uuid.uuid4().hex
    slow = threading.Thread(
        target=ask,
        args=(store, f"SELECT '{session}' FROM numbers(100000000000) WHERE rand() = 1"),
        kwargs={"session_id": session, "max_execution_time": 2},
    )
    slow.start()
    deadline = time.monotonic() + 10
    while (
        session not in ask(store, "SELECT query FROM system.processes").text and time.monotonic() < deadline
    ):
        pass
    assert ask(store, "SELECT 1", session_id=session).code == 373
    slow.join()
    assert ask(store, "SELECT 1", session_id=session).status == 200


def test_a_session_cannot_last_for_ever(store):
    assert ask(store, "SELECT 1", session_id="s", session_timeout=86_400).code == 374


def test_more_sessions_than_places_push_out_the_oldest(store):
    for number in range(80):
        assert ask(store, "SELECT 1", session_id=f"many-{number}", account=store.reader).status == 200
    assert ask(store, "SELECT 1", session_id="many-0", session_check=1, account=store.reader).code == 372
    assert ask(store, "SELECT 1", session_id="many-79", session_check=1, account=store.reader).status == 200
