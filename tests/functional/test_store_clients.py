"""Unmodified clients of ClickHouse on the store: clickhouse-connect (sync, async), curl, clickhouse-go."""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
import subprocess
import threading
import uuid
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import polars as pl
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from functional.store_fixture import client

pytestmark = pytest.mark.functional

HOSTILE = [
    "",
    "it's",
    'a "quoted" one',
    "back\\slash",
    "tab\tand\nnewline\r",
    "'; DROP TABLE t.x; --",
    "{other:String}",
    "$$ heredoc $$",
    "NUL \0 inside",
    "ünïcödé 💥 \u2018quotes\u2019",
    "\\N",
    "'x' UNION ALL SELECT file('/etc/hostname')",
]


@pytest.fixture(scope="module")
def writer(store):
    with client(store, store.writer, database="t") as connected:
        yield connected


@pytest.fixture(scope="module")
def reader(store):
    with client(store, store.reader, database="t", autogenerate_session_id=False) as connected:
        yield connected


@pytest.fixture
def table(writer) -> str:
    """A table of one's own: x UInt32, s String."""
    name = f"t.r{uuid.uuid4().hex[:12]}"
    writer.command(f"CREATE TABLE {name} (x UInt32, s String) ENGINE = MergeTree ORDER BY x")
    return name


def ipc(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()


def random_frame(rows: int, seed: int) -> pl.DataFrame:
    rng = random.Random(seed)
    return pl.DataFrame(
        {
            "x": pl.Series([rng.getrandbits(32) for _ in range(rows)], dtype=pl.UInt32),
            "s": [rng.randbytes(rng.randrange(40)) for _ in range(rows)],
        }
    )


def test_arrow_bodies_of_random_bytes_insert_every_row(writer, table):
    sent = 0
    for seed in range(60):
        frame = random_frame(seed * 3 + 1, seed)
        summary = writer.raw_insert(table, insert_block=ipc(frame), fmt="ArrowStream")
        assert summary.written_rows == frame.height
        sent += frame.height
    assert writer.command(f"SELECT count() FROM {table}") == sent


def test_arrow_bytes_come_back_as_they_were_sent(writer, table):
    frame = random_frame(500, seed=1)
    writer.raw_insert(table, ["x", "s"], insert_block=ipc(frame), fmt="ArrowStream")
    binary = {"output_format_arrow_string_as_string": 0}
    raw = writer.raw_query(f"SELECT x, s FROM {table}", fmt="ArrowStream", settings=binary)
    assert pl.read_ipc_stream(raw).sort("x", "s").rows() == frame.sort("x", "s").rows()


def test_data_that_looks_like_sql_is_data(writer, table):
    writer.raw_insert(
        table, insert_block="1\tFORMAT CSV\n2\t; DROP TABLE x\n3\tINSERT INTO y VALUES\n", fmt="TSV"
    )
    assert writer.command(f"SELECT count() FROM {table}") == 3


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", "deflate"])
def test_compressed_bodies_are_decoded(writer, table, compression):
    import gzip  # noqa: PLC0415 - one test's
    import zlib  # noqa: PLC0415

    import lz4.frame  # noqa: PLC0415
    import zstandard  # noqa: PLC0415

    compress = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
        "lz4": lz4.frame.compress,
        "deflate": zlib.compress,
    }[compression]
    frame = random_frame(1000, seed=2)
    body = ipc(frame)
    # Two frames one after another: clickhouse-connect compresses each block by itself.
    parts = (body,) if compression == "deflate" else (body[:100], body[100:])
    block = b"".join(compress(part) for part in parts)
    summary = writer.raw_insert(table, insert_block=block, fmt="ArrowStream", compression=compression)
    assert summary.written_rows == 1000


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_rows_go_in_and_out_with_every_compression_of_the_client(store, table, compression):
    with client(store, store.writer, compress=compression) as writer:
        writer.insert(table, [[number, f"row {number}"] for number in range(5000)], column_names=["x", "s"])
        rows = writer.query(f"SELECT x, s FROM {table} ORDER BY x").result_rows
    assert rows == [(number, f"row {number}") for number in range(5000)]


def test_data_frames_go_in_and_out(writer, table):
    frame = writer.query_df("SELECT toUInt32(number) AS x, toString(number) AS s FROM numbers(100)")
    assert writer.insert_df(table, frame).written_rows == 100
    assert writer.query_arrow(f"SELECT x FROM {table}").num_rows == 100


def test_an_insert_from_a_generator_is_streamed(writer, table):
    lines = (b"%d\tline\n" % number for number in range(20_000))
    assert writer.raw_insert(table, insert_block=lines, fmt="TSV").written_rows == 20_000


@pytest.mark.parametrize("value", HOSTILE)
def test_a_parameter_is_a_value_whatever_is_in_it(reader, value):
    assert reader.query("SELECT {v:String}", parameters={"v": value}).result_rows == [(value,)]
    assert reader.query("SELECT %(v)s", parameters={"v": value}).result_rows == [(value,)]


def test_parameters_of_other_types_are_substituted(reader):
    given = {"n": 2**63, "d": date(2026, 1, 2), "a": ["it's", "b"]}
    rows = reader.query("SELECT {n:UInt64}, {d:Date}, {a:Array(String)}", parameters=given).result_rows
    assert rows == [(2**63, date(2026, 1, 2), ["it's", "b"])]


def test_a_parameter_can_name_a_table_of_ours(reader, writer, table):
    writer.insert(table, [[1, "a"]], column_names=["x", "s"])
    database, name = table.split(".")
    sql = "SELECT count() FROM {d:Identifier}.{t:Identifier}"
    assert reader.query(sql, parameters={"d": database, "t": name}).result_rows == [(1,)]


def test_parameters_sent_as_a_form_are_substituted(store):
    with client(store, store.reader, form_encode_query_params=True) as reader:
        rows = reader.query("SELECT {v:String}, {n:UInt8}", parameters={"v": "it's\n\\", "n": 7}).result_rows
    assert rows == [("it's\n\\", 7)]


def test_a_missing_parameter_has_clickhouses_code(reader):
    with pytest.raises(DatabaseError) as raised:
        reader.query("SELECT {nosuch:String}")
    assert raised.value.code == 456


def test_a_long_result_streams_in_blocks(reader):
    with reader.query_row_block_stream("SELECT number FROM numbers(1000000)") as blocks:
        sizes = [len(block) for block in blocks]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 10


def test_an_error_before_the_first_rows_has_a_status_and_a_code(reader):
    with pytest.raises(DatabaseError) as raised:
        reader.query("SELECT nosuch FROM numbers(10)")
    assert (raised.value.code, raised.value.name) == (47, "UNKNOWN_IDENTIFIER")


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(reader):
    sql = "SELECT throwIf(number = 3000000, 'too far') FROM numbers(5000000) SETTINGS max_block_size = 65536"
    with (
        pytest.raises(DatabaseError, match="too far"),
        reader.query_row_block_stream(sql) as blocks,
    ):
        for _ in blocks:
            pass


def test_a_query_without_rows_still_names_its_columns(reader):
    assert reader.query("SELECT 1 AS a, 'x' AS b LIMIT 0").column_names == ("a", "b")


def test_a_result_in_a_format_with_a_header_has_it_once(reader):
    raw = reader.raw_query("SELECT number FROM numbers(300000)", fmt="CSVWithNames")
    assert raw.count(b"number") == 1
    assert raw.count(b"\n") == 300_001


def test_ddl_answers_with_a_summary_and_no_format(writer, table):
    assert writer.command(f"OPTIMIZE TABLE {table} FINAL").query_id()
    assert writer.command(f"INSERT INTO {table} SELECT number, '' FROM numbers(7)").written_rows == 7


def test_settings_end_with_their_request(reader):
    limited = reader.query("SELECT getSetting('max_threads')", settings={"max_threads": 3})
    assert limited.result_rows == [(3,)]
    assert reader.query("SELECT getSetting('max_threads')").result_rows != [(3,)]


def test_external_data_is_refused_with_a_code(reader):
    from clickhouse_connect.driver.external import ExternalData  # noqa: PLC0415 - one test's

    data = ExternalData(file_name="m.csv", data=b"1\n", fmt="CSV", structure=["x UInt8"])
    with pytest.raises(DatabaseError) as raised:
        reader.query("SELECT * FROM m", external_data=data)
    assert raised.value.code == 344


def test_the_async_client_does_the_same(store, table):
    async def work() -> tuple[int, list[tuple], int]:
        url = urlsplit(store.url)
        async with await clickhouse_connect.get_async_client(
            host=url.hostname, port=url.port, username="writer", password=store.writer[1]
        ) as connected:
            await connected.insert(table, [[1, "a"], [2, "b"]], column_names=["x", "s"])
            summary = await connected.raw_insert(
                table, insert_block=ipc(random_frame(300, seed=3)), fmt="ArrowStream"
            )
            rows = (await connected.query("SELECT {v:String}", parameters={"v": "it's"})).result_rows
            read = 0
            async with await connected.query_row_block_stream("SELECT number FROM numbers(200000)") as blocks:
                async for block in blocks:
                    read += len(block)
        return summary.written_rows, rows, read

    assert asyncio.run(work()) == (300, [("it's",)], 200_000)


def test_inserts_and_queries_work_at_once_and_count_exactly(store, table):
    failures: list[Exception] = []

    def insert(seed: int) -> None:
        with client(store, store.writer) as connected:
            for step in range(10):
                frame = random_frame(1000, seed * 100 + step)
                connected.raw_insert(table, insert_block=ipc(frame), fmt="ArrowStream")

    def read() -> None:
        with client(store, store.reader) as connected:
            for _ in range(10):
                connected.query(f"SELECT count(), sum(x) FROM {table}")
                with pytest.raises(DatabaseError):
                    connected.query("SELECT nosuch")

    def guarded(work, *args) -> None:
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(insert, seed)) for seed in (1, 2)]
    threads += [threading.Thread(target=guarded, args=(read,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with client(store, store.reader) as connected:
        assert connected.command(f"SELECT count() FROM {table}") == 20_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_and_writes(store, table):
    def curl(*arguments: str, data: bytes = b"") -> str:
        # The password comes by standard input: it must not be in a list of processes.
        config = f'user = "writer:{store.writer[1]}"\n'
        done = subprocess.run(
            ["curl", "-sS", "--compressed", "-K", "-", *arguments],
            input=config.encode() + data,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode()

    assert curl(f"{store.url}/", "--data-binary", f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b')") == ""
    url = f"{store.url}/?enable_http_compression=1&param_x=2"
    assert curl(url, "--data-binary", f"SELECT s FROM {table} WHERE x = {{x:UInt32}} FORMAT JSONEachRow") == (
        '{"s":"b"}\n'
    )
    assert curl(f"{store.url}/?query=SELECT%20version()").startswith("26.")
    assert curl(f"{store.url}/ping") == "Ok.\n"


GO_PROGRAM = Path(__file__).parent / "clickhouse_go"


@pytest.mark.skipif(
    os.environ.get("EGRESSLENS_TEST_GO") != "1" or shutil.which("go") is None,
    reason="set EGRESSLENS_TEST_GO=1 (needs Go, and clickhouse-go from the module proxy)",
)
def test_clickhouse_go_reads_and_writes(store, tmp_path):
    subprocess.run(["go", "build", "-o", tmp_path / "program", "."], cwd=GO_PROGRAM, check=True, timeout=600)
    done = subprocess.run(
        [tmp_path / "program", urlsplit(store.url).netloc],
        env={"STORE_PASSWORD": store.writer[1]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == ["count 1000"], done.stdout + done.stderr
