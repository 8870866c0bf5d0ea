"""What the store refuses, each with ClickHouse's own code, and what stays allowed."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from functional.store_fixture import ask

pytestmark = pytest.mark.functional

SYNTAX_ERROR, READONLY, NOT_IMPLEMENTED, UNKNOWN_SETTING = 62, 164, 48, 115
DATABASE_ACCESS_DENIED, SUPPORT_IS_DISABLED, OUTFILE, FUNCTION_NOT_ALLOWED = 291, 344, 358, 446
CONSTRAINT, INVALID_USAGE_OF_INPUT, ACCESS_DENIED = 452, 477, 497

REFUSALS = (ACCESS_DENIED, FUNCTION_NOT_ALLOWED, CONSTRAINT, DATABASE_ACCESS_DENIED)
SECRET = "only in the file"


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    """A file outside the store that its process could read."""
    path = tmp_path_factory.mktemp("outside") / "secret.txt"
    path.write_text(SECRET)
    return path


# {f} is the path of a file that exists; every one of these reads it on a bare engine, or would if it could.
FILE_READS = [
    "SELECT file('{f}')",
    "SELECT `file`('{f}')",
    "SELECT \"file\"('{f}')",
    "SELECT/**/file/* */(/**/'{f}')",
    "SELECT file -- \n ('{f}')",
    "SELECT arrayMap(file, ['{f}'])",
    "SELECT arrayMap(`file`, ['{f}'])",
    "SELECT arrayMap(x -> file(x), ['{f}'])",
    "SELECT arrayFilter(file, ['{f}'])",
    "SELECT * APPLY(file) FROM (SELECT '{f}' AS x)",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT '{f}' AS x)",
    "SELECT * REPLACE (file('{f}') AS x) FROM (SELECT 1 AS x)",
    "WITH x -> file(x) AS f SELECT f('{f}')",
    "WITH file('{f}') AS x SELECT x",
    "WITH file AS f SELECT arrayMap(f, ['{f}'])",
    "FROM (SELECT '{f}' AS x) |> SELECT file(x)",
    "SELECT 1 WHERE file('{f}') != ''",
    "SELECT 1 FROM numbers(1) PREWHERE file('{f}') != ''",
    "SELECT 1 GROUP BY file('{f}')",
    "SELECT 1 GROUP BY GROUPING SETS ((file('{f}')))",
    "SELECT 1 HAVING file('{f}') != ''",
    "SELECT 1 QUALIFY file('{f}') != ''",
    "SELECT 1 ORDER BY file('{f}')",
    "SELECT number FROM numbers(1) ORDER BY number WITH FILL FROM length(file('{f}'))",
    "SELECT number FROM numbers(1) ORDER BY number WITH FILL INTERPOLATE (number AS length(file('{f}')))",
    "SELECT 1 LIMIT length(file('{f}'))",
    "SELECT 1 LIMIT 1 OFFSET length(file('{f}'))",
    "SELECT 1 LIMIT 1 BY file('{f}')",
    "SELECT sum(1) FILTER (WHERE file('{f}') != '')",
    "SELECT sum(1) OVER (PARTITION BY file('{f}'))",
    "SELECT sum(1) OVER w WINDOW w AS (ORDER BY file('{f}'))",
    "SELECT x FROM numbers(1) ARRAY JOIN [file('{f}')] AS x",
    "SELECT 1 FROM numbers(1) AS a JOIN numbers(1) AS b ON file('{f}') != ''",
    "SELECT CASE WHEN file('{f}') = '' THEN 1 END",
    "SELECT 1 IN (SELECT file('{f}'))",
    "SELECT (SELECT file('{f}'))",
    "SELECT 1 UNION ALL SELECT length(file('{f}'))",
    "(SELECT file('{f}')) EXCEPT (SELECT '')",
    "SELECT * FROM view(SELECT file('{f}'))",
    "SELECT * FROM values('y String, x String ALIAS file(''{f}'')', ('a'))",
    "SELECT x FROM values('y String, x String ALIAS file(''{f}'')', ('a'))",
    "SELECT x FROM values(concat('y String, x String AL', 'IAS file(''{f}'')'), ('a'))",
    'SELECT x FROM format(JSONEachRow, $$y String, x String DEFAULT file(\'{f}\')$$, $${{"y":""}}$$)',
    "SELECT x FROM generateRandom($$y String, x String ALIAS file('{f}')$$) LIMIT 1",
    "SELECT * FROM null($$x String DEFAULT file('{f}')$$)",
    "SELECT * FROM file('{f}', LineAsString)",
    "SELECT * FROM `file`('{f}', LineAsString)",
    "SELECT * FROM FILE('{f}', LineAsString)",
    "SELECT * FROM fileCluster('c', '{f}', LineAsString)",
    "SELECT * FROM url('file://{f}', LineAsString)",
    "SELECT * FROM filesystem('{f}')",
    "SELECT * FROM `{f}`",
    "SELECT * FROM '{f}'",
    "SELECT * FROM default.`{f}`",
    "SELECT * FROM {{x:Identifier}}",
    "DESCRIBE TABLE file('{f}', LineAsString)",
    "DESCRIBE (SELECT file('{f}'))",
    "DESCRIBE TABLE `{f}`",
    "EXISTS TABLE `{f}`",
    "SHOW CREATE TABLE default.`{f}`",
    "EXPLAIN SELECT file('{f}')",
    "EXPLAIN SYNTAX SELECT * FROM file('{f}')",
    "SHOW COLUMNS FROM t WHERE file('{f}') != ''",
    "SELECT * FROM eval($$SELECT file('{f}')$$)",
    "SELECT * FROM executable('cat {f}', LineAsString, 'x String')",
    "SELECT * FROM python(handle)",
    "SELECT * FROM Python(handle)",
    "SELECT * FROM arrowstream('{f}')",
    "SELECT * FROM sqlite('{f}', 't')",
    "SELECT * FROM dictionary('d')",
    "SELECT * FROM merge('system', 'processes')",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
    "SELECT dictGet('d', 'a', 1)",
    "SELECT convertCharset('a', '{f}', 'utf8')",
    "SELECT 1 SETTINGS additional_table_filters = {{'t': 'file(''{f}'')'}}",
    "SELECT 1 SETTINGS additional_result_filter = 'file(''{f}'') != '''''",
    "SELECT 1 SETTINGS format_schema = '{f}:X'",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '{f}'",
]


@pytest.mark.parametrize("account", ["writer", "reader"])
@pytest.mark.parametrize("sql", FILE_READS)
def test_no_statement_reads_a_file(store, secret, sql, account):
    answered = ask(store, sql.format(f=secret), account=getattr(store, account), param_x=f"{secret}")
    assert answered.code in (
        ACCESS_DENIED,
        FUNCTION_NOT_ALLOWED,
        CONSTRAINT,
        DATABASE_ACCESS_DENIED,
        SUPPORT_IS_DISABLED,
    )
    assert SECRET not in answered.text


# Every place an expression can stand in; @ is one that reads a file without a call of `file` in the text.
PLACES = """
SHOW TABLES WHERE @ != ''
SHOW TABLES LIMIT length(@)
SHOW COLUMNS FROM t WHERE @!=''
SHOW INDEX FROM t WHERE @!=''
SHOW FULL TABLES WHERE @!=''
SELECT DISTINCT ON (@) 1
SELECT TOP 1 @
SELECT sum(1) OVER (ORDER BY 1 ROWS BETWEEN length(@) PRECEDING AND CURRENT ROW)
SELECT 1 FROM numbers(length(@))
SELECT 1 FROM numbers(1) AS a ASOF JOIN numbers(1) AS b ON a.number>=b.number AND @!=''
SELECT 1 FROM numbers(1) LEFT ARRAY JOIN [@] AS y
SELECT 1 LIMIT length(@), 1
SELECT 1 ORDER BY 1 WITH FILL TO length(@) STEP 1 STALENESS 1
SELECT 1 ORDER BY 1 WITH FILL STEP length(@)
SELECT 1 GROUP BY CUBE(@)
SELECT 1 GROUP BY 1 WITH TOTALS HAVING @!=''
SELECT quantile(length(@))(1)
SELECT * EXCEPT ('a') REPLACE (@ AS y) FROM (SELECT 1 y)
SELECT COLUMNS('a') APPLY(x -> @) FROM (SELECT 1 a)
SELECT * APPLY quantile(length(@)) FROM (SELECT 1 a)
SELECT @::String
SELECT CAST(@ AS String)
SELECT {k:UInt8} + length(@)
SELECT (@, 1).1
SELECT [@][1]
SELECT map(@, 1)
SELECT @ BETWEEN 'a' AND 'b'
SELECT 'a' LIKE @
SELECT 'a' IN (@)
SELECT 'a' IN [@]
SELECT @ IS NULL
SELECT NOT @
SELECT -length(@)
SELECT if(1, @, '')
SELECT @ ? 1 : 2
SELECT CASE 1 WHEN length(@) THEN @ ELSE @ END
SELECT INTERVAL length(@) DAY
SELECT EXTRACT(DAY FROM toDate(@))
SELECT SUBSTRING(@ FROM 1 FOR 2)
SELECT TRIM(BOTH @ FROM 'a')
SELECT POSITION(@ IN 'a')
SELECT DATE_ADD(DAY, length(@), now())
SELECT EXISTS(SELECT @)
SELECT 1 = ANY (SELECT @)
SELECT 1 > ALL (SELECT length(@))
SELECT 1 INTERSECT SELECT length(@)
SELECT count() FILTER (WHERE @ != '')
SELECT arrayMap((a, b) -> @, [1], [2])
WITH (SELECT @) AS y SELECT y
WITH RECURSIVE y AS (SELECT @ AS z UNION ALL SELECT z FROM y) SELECT * FROM y
WITH y AS MATERIALIZED (SELECT @) SELECT 1
SELECT a.b.c[@] FROM t
SELECT 1 PREWHERE @ != ''
SELECT JSONExtract('{}', @)
SELECT 1 WINDOW w AS (PARTITION BY @)
CREATE TABLE t.f (x String DEFAULT @) ORDER BY x
CREATE TABLE t.f (x String) ORDER BY @
CREATE TABLE t.f (x String) PARTITION BY @ ORDER BY x
CREATE TABLE t.f (x String) PRIMARY KEY @
CREATE TABLE t.f (x String) ORDER BY x SAMPLE BY @
CREATE TABLE t.f (x String, d Date) ORDER BY x TTL d + length(@)
CREATE TABLE t.f (x String, d Date, y String) ORDER BY x TTL d GROUP BY x SET y = max(@)
CREATE TABLE t.f (x String, d Date) ORDER BY x TTL d DELETE WHERE @ != ''
CREATE TABLE t.f (x String, INDEX i @ TYPE minmax) ORDER BY x
CREATE TABLE t.f (x String, INDEX i x TYPE set(length(@))) ORDER BY x
CREATE TABLE t.f (x String, PROJECTION p (SELECT @ GROUP BY x)) ORDER BY x
CREATE TABLE t.f (x String, PROJECTION p INDEX @ TYPE basic) ORDER BY x
CREATE TABLE t.f (x String, CONSTRAINT c ASSUME @ != '') ORDER BY x
CREATE TABLE t.f (x String EPHEMERAL @) ORDER BY x
CREATE TABLE t.f ENGINE=ReplacingMergeTree(@) ORDER BY x AS SELECT 1 x
CREATE TABLE t.f ORDER BY x AS SELECT @ AS x
CREATE VIEW t.f AS SELECT @
CREATE VIEW t.f (a String DEFAULT @) AS SELECT 1 a
CREATE MATERIALIZED VIEW t.f REFRESH EVERY 1 DAY TO t.x AS SELECT @
CREATE MATERIALIZED VIEW t.f (x String DEFAULT @) ENGINE=Memory AS SELECT 1 x
CREATE MATERIALIZED VIEW t.f TO t.x (x String DEFAULT @) AS SELECT 1 x
ALTER TABLE t.x ADD COLUMN y String DEFAULT @
ALTER TABLE t.x MODIFY COLUMN y DEFAULT @
ALTER TABLE t.x MODIFY COLUMN y TTL toDate(@)
ALTER TABLE t.x ADD INDEX i @ TYPE minmax
ALTER TABLE t.x ADD PROJECTION p (SELECT @)
ALTER TABLE t.x ADD CONSTRAINT c CHECK @ != ''
ALTER TABLE t.x MODIFY ORDER BY @
ALTER TABLE t.x MODIFY SAMPLE BY @
ALTER TABLE t.x MODIFY TTL toDate(@)
ALTER TABLE t.x UPDATE y = @ WHERE 1
ALTER TABLE t.x UPDATE y = '' WHERE @ != ''
ALTER TABLE t.x DELETE WHERE @ != ''
ALTER TABLE t.x MODIFY QUERY SELECT @
ALTER TABLE t.x DROP PARTITION tuple(@)
DELETE FROM t.x WHERE @ != ''
UPDATE t.x SET y = @ WHERE 1
UPDATE t.x SET y = '' WHERE @ != ''
INSERT INTO t.x SELECT @
INSERT INTO t.x WITH @ AS y SELECT y
DESCRIBE (SELECT @)
DESCRIBE TABLE view(SELECT @)
EXPLAIN SELECT @
EXPLAIN PIPELINE SELECT @
""".strip().splitlines()


@pytest.mark.parametrize("place", PLACES)
def test_no_expression_reads_a_file_wherever_it_stands(store, secret, place):
    answered = ask(store, place.replace("@", f"arrayMap(file, ['{secret}'])[1]"), param_k=1)
    assert answered.code == FUNCTION_NOT_ALLOWED, answered.text


def test_a_parameter_cannot_name_a_function(store, secret):
    sql = f"SELECT arrayMap({{f:Identifier}}, ['{secret}'])"
    assert ask(store, sql, param_f="file").code == FUNCTION_NOT_ALLOWED
    assert ask(store, sql, param_f="`file`").code == FUNCTION_NOT_ALLOWED


# What only the writer could try: nothing of it may leave a trace outside the store, or read a file later.
WRITES_OF_FILES = {
    "SELECT 1 INTO OUTFILE '{f}'": OUTFILE,
    "SELECT 1 INTO OUTFILE '{f}' TRUNCATE FORMAT CSV": OUTFILE,
    "SELECT 1 INTO/**/OUTFILE '{f}' AND STDOUT": OUTFILE,
    "DESCRIBE (SELECT 1) INTO OUTFILE '{f}'": OUTFILE,
    "SHOW TABLES INTO OUTFILE '{f}'": OUTFILE,
    "EXISTS TABLE t.x INTO OUTFILE '{f}'": OUTFILE,
    "EXISTS TABLE t.x INTO OUTFILE 'relative'": OUTFILE,
    "SHOW CREATE TABLE t.x INTO OUTFILE '{f}'": OUTFILE,
    "SHOW CREATE TABLE t.x INTO OUTFILE 'relative' FORMAT CSV": OUTFILE,
    "EXPLAIN SELECT 1 INTO OUTFILE '{f}'": OUTFILE,
    "INSERT INTO FUNCTION file('{f}', CSV, 'x Int8') SELECT 1": ACCESS_DENIED,
    "INSERT INTO FUNCTION file('{f}', CSV, 'x Int8') VALUES (1)": ACCESS_DENIED,
    "INSERT INTO TABLE FUNCTION url('http://127.0.0.1/', CSV, 'x Int8') SELECT 1": ACCESS_DENIED,
    "INSERT INTO t.x FROM INFILE '{f}' FORMAT CSV": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = File(CSV, '{f}')": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = URL('http://127.0.0.1/', CSV)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = S3('http://127.0.0.1/b/k', CSV)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = Merge('system', '.*')": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = Distributed('c', 'd', 't')": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = Executable('x', CSV)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = Kafka('127.0.0.1:9092', 't', 'g', 'CSV')": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = ReplicatedMergeTree('/a', 'b') ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = Dictionary('d')": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ENGINE = SQLite('{f}', 't')": ACCESS_DENIED,
    "CREATE TABLE t.f AS file('{f}', LineAsString)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ORDER BY x SETTINGS disk = disk(type = local, path = '{d}')": CONSTRAINT,
    "CREATE TABLE t.f (x String) ORDER BY x SETTINGS disk = disk(type = web, path = '{d}')": CONSTRAINT,
    "CREATE TABLE t.f (x Int8) ENGINE = MergeTree ORDER BY x "
    "SETTINGS disk = disk(type=local_blob_storage, path='{d}')": CONSTRAINT,
    "CREATE TABLE t.f (x String) ORDER BY x SETTINGS storage_policy = 'other'": CONSTRAINT,
    "CREATE TABLE t.f (x String, y String DEFAULT file('{f}')) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, y String ALIAS file('{f}')) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, y String MATERIALIZED file('{f}')) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, INDEX i file(x) TYPE minmax) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, CONSTRAINT c CHECK file(x) != '') ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, PROJECTION p (SELECT file(x) ORDER BY x)) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ORDER BY file(x)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ORDER BY x PARTITION BY file(x)": ACCESS_DENIED,
    "CREATE TABLE t.f (x String, d Date TTL d + length(file('{f}'))) ORDER BY x": ACCESS_DENIED,
    "CREATE TABLE t.f (x String) ORDER BY x TTL toDate(file('{f}'))": ACCESS_DENIED,
    "CREATE VIEW t.f AS SELECT file('{f}')": ACCESS_DENIED,
    "CREATE VIEW t.f AS SELECT * FROM url('http://127.0.0.1/', CSV)": ACCESS_DENIED,
    "CREATE VIEW t.f AS SELECT arrayMap(file, ['{f}'])": FUNCTION_NOT_ALLOWED,
    "CREATE MATERIALIZED VIEW t.f ENGINE = File(CSV) AS SELECT 1": ACCESS_DENIED,
    "CREATE MATERIALIZED VIEW t.f ENGINE = Log AS SELECT file(x) AS x FROM t.x": ACCESS_DENIED,
    "CREATE DICTIONARY t.f (k UInt64) PRIMARY KEY k SOURCE(FILE(path '{f}')) LAYOUT(FLAT())": ACCESS_DENIED,
    "CREATE DICTIONARY t.f (k UInt64) PRIMARY KEY k SOURCE(EXECUTABLE(command 'x'))": ACCESS_DENIED,
    "CREATE DATABASE f ENGINE = Filesystem('{d}')": ACCESS_DENIED,
    "CREATE DATABASE f ENGINE = MySQL('127.0.0.1', 'd', 'u', 'p')": ACCESS_DENIED,
    "CREATE FUNCTION f AS x -> file(x)": ACCESS_DENIED,
    "CREATE FUNCTION f AS x -> x": ACCESS_DENIED,
    "CREATE NAMED COLLECTION f AS a = 1": ACCESS_DENIED,
    "CREATE USER f": ACCESS_DENIED,
    "GRANT ALL ON *.* TO default": ACCESS_DENIED,
    "ATTACH TABLE t.f FROM '{d}' (x String) ENGINE = Log": ACCESS_DENIED,
    "ATTACH TABLE t.f": ACCESS_DENIED,
    "DETACH TABLE t.x": ACCESS_DENIED,
    "BACKUP TABLE t.x TO File('{f}')": ACCESS_DENIED,
    "BACKUP DATABASE t TO Disk('backups', 'x')": ACCESS_DENIED,
    "RESTORE TABLE t.x FROM File('{f}')": ACCESS_DENIED,
    "ALTER TABLE t.x FREEZE": ACCESS_DENIED,
    "ALTER TABLE t.x FETCH PARTITION 1 FROM '/a'": ACCESS_DENIED,
    "ALTER TABLE t.x ADD COLUMN y String DEFAULT file('{f}')": ACCESS_DENIED,
    "ALTER TABLE t.x UPDATE x = file('{f}') WHERE 1": ACCESS_DENIED,
    "ALTER TABLE t.x DELETE WHERE x = file('{f}')": ACCESS_DENIED,
    "ALTER TABLE t.x MODIFY SETTING disk = 'other'": CONSTRAINT,
    "DELETE FROM t.x WHERE x = file('{f}')": ACCESS_DENIED,
    "INSERT INTO t.x SELECT file('{f}')": ACCESS_DENIED,
    "INSERT INTO t.x SELECT x FROM input('x String') FORMAT CSV": INVALID_USAGE_OF_INPUT,
    "INSERT INTO system.one FORMAT CSV\n1": DATABASE_ACCESS_DENIED,
    "INSERT INTO default.`{f}` FORMAT CSV\n1": ACCESS_DENIED,
    "CREATE TABLE default.x (x Int8) ORDER BY x": DATABASE_ACCESS_DENIED,
    "CREATE TABLE `{f}` (x Int8) ORDER BY x": ACCESS_DENIED,
    "DROP DATABASE default": DATABASE_ACCESS_DENIED,
    "DROP DATABASE system": DATABASE_ACCESS_DENIED,
    "RENAME TABLE t.x TO default.x": DATABASE_ACCESS_DENIED,
    "SYSTEM FLUSH LOGS": ACCESS_DENIED,
    "SYSTEM SHUTDOWN": ACCESS_DENIED,
    "system/**/reload config": ACCESS_DENIED,
    "KILL QUERY WHERE 1": ACCESS_DENIED,
    "EXECUTE AS default": ACCESS_DENIED,
    "USE system": ACCESS_DENIED,
    "SET ROLE NONE": ACCESS_DENIED,
    "BEGIN TRANSACTION": ACCESS_DENIED,
    "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1', 'd', 't', 'u', 'p') PARTITION BY 1": ACCESS_DENIED,
    "EXPLAIN CREATE TABLE t.f (x Int8) ORDER BY x": ACCESS_DENIED,
    "SHOW GRANTS": ACCESS_DENIED,
    "SELECT * FROM s3('http://127.0.0.1:1/b/k', CSV)": ACCESS_DENIED,
    "SELECT * FROM remote('127.0.0.1', system.one)": ACCESS_DENIED,
    "SELECT * FROM cluster('c', system.one)": ACCESS_DENIED,
    "SELECT * FROM mysql('127.0.0.1', 'd', 't', 'u', 'p')": ACCESS_DENIED,
    "SELECT aiGenerate('a', 'b')": FUNCTION_NOT_ALLOWED,
    "SELECT sleep(1)": FUNCTION_NOT_ALLOWED,
    "SELECT getServerSetting('path')": FUNCTION_NOT_ALLOWED,
    "SELECT getMacro('a')": FUNCTION_NOT_ALLOWED,
    "SELECT addressToLine(1)": FUNCTION_NOT_ALLOWED,
    "SELECT 1; SELECT 2": SYNTAX_ERROR,
    "SELECT 1; DROP TABLE t.x": SYNTAX_ERROR,
    "SELECT": SYNTAX_ERROR,
    "": SYNTAX_ERROR,
    "CREATE TABLE t.f (x Int8) ORDER BY x PARALLEL WITH CREATE TABLE t.g (x Int8) ORDER BY x": ACCESS_DENIED,
    "SET readonly = 0": CONSTRAINT,
    "SET dialect = 'prql'": CONSTRAINT,
    "SET nosuch = 1": UNKNOWN_SETTING,
    "SET profile = 'default'": UNKNOWN_SETTING,
    "SET param_x = 'a'": ACCESS_DENIED,
    "SELECT 1 SETTINGS readonly = 0": CONSTRAINT,
    "SELECT 1 SETTINGS profile = 'default'": UNKNOWN_SETTING,
    "SELECT 1 SETTINGS max_memory_usage = 0": CONSTRAINT,
    "SELECT 1 SETTINGS max_execution_time = 1000000": CONSTRAINT,
    "SELECT 1 SETTINGS max_result_bytes = 0": CONSTRAINT,
    "SELECT 1 SETTINGS max_threads = 10000": CONSTRAINT,
    "SELECT 1 SETTINGS s3_base = 'http://127.0.0.1/'": CONSTRAINT,
    "SELECT 1 SETTINGS allow_introspection_functions = 1": CONSTRAINT,
}


@pytest.mark.parametrize("sql", WRITES_OF_FILES)
def test_the_writer_is_refused_with_clickhouses_code(store, tmp_path, sql):
    folder = tmp_path / "new"
    answered = ask(store, sql.format(f=folder / "file", d=folder))
    assert answered.code == WRITES_OF_FILES[sql], answered.text
    assert not folder.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE DATABASE r",
        "CREATE TABLE t.r (x Int8) ORDER BY x",
        "CREATE VIEW t.r AS SELECT 1",
        "CREATE TEMPORARY TABLE r (x Int8)",
        "DROP TABLE t.readable",
        "TRUNCATE TABLE t.readable",
        "RENAME TABLE t.readable TO t.r",
        "OPTIMIZE TABLE t.readable",
        "ALTER TABLE t.readable DELETE WHERE 1",
        "DELETE FROM t.readable WHERE 1",
        "INSERT INTO t.readable SELECT 2",
        "INSERT INTO t.readable VALUES (2)",
        "INSERT INTO t.readable FORMAT CSV\n2",
    ],
)
def test_the_reader_cannot_write(store, sql):
    ask(store, "CREATE TABLE IF NOT EXISTS t.readable (x Int8) ORDER BY x AS SELECT 1 AS x")
    assert ask(store, sql, account=store.reader).code == READONLY
    assert ask(store, "SELECT x FROM t.readable", account=store.reader).text == "1\n"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM system.processes",
        "SELECT * FROM SYSTEM.processes",
        "SELECT * FROM `system`.`processes`",
        "SELECT 1 IN system.processes",
        "SELECT * FROM system.errors",
        "SELECT * FROM system.server_settings",
        "SELECT * FROM system.stack_trace",
        "SELECT * FROM system.users",
        "SHOW PROCESSLIST",
        "SHOW CREATE TABLE system.processes",
        "DESCRIBE TABLE system.processes",
        "SELECT * FROM {d:Identifier}.{p:Identifier}",
        "SELECT * FROM {q:Identifier}",
    ],
)
def test_the_reader_does_not_see_other_peoples_statements_or_the_machine(store, sql):
    answered = ask(
        store,
        sql,
        account=store.reader,
        param_d="system",
        param_p="processes",
        param_q="`system`.`processes`",
    )
    assert answered.code in (ACCESS_DENIED, DATABASE_ACCESS_DENIED), answered.text


def test_unqualified_names_do_not_reach_system_tables(store):
    answered = ask(store, "SELECT * FROM processes", account=store.reader, database="system")
    assert answered.code == DATABASE_ACCESS_DENIED


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("readonly", "0", CONSTRAINT),
        ("allow_ddl", "1", CONSTRAINT),
        ("dialect", "prql", CONSTRAINT),
        ("additional_result_filter", "1", CONSTRAINT),
        ("format_schema", "/etc/passwd:X", CONSTRAINT),
        ("max_execution_time", "0", CONSTRAINT),
        ("max_memory_usage", "99999999999999", CONSTRAINT),
        ("profile", "default", UNKNOWN_SETTING),
        ("role", "admin", SUPPORT_IS_DISABLED),
        ("nosuch", "1", UNKNOWN_SETTING),
        ("compress", "1", SUPPORT_IS_DISABLED),
        ("decompress", "1", SUPPORT_IS_DISABLED),
    ],
)
def test_a_request_cannot_loosen_what_its_account_may_do(store, name, value, code):
    assert ask(store, "SELECT 1", account=store.reader, **{name: value}).code == code


# The SQL of migrations, sinks, reports and dashboards looks like this.
ALLOWED = """
CREATE TABLE IF NOT EXISTS {db}.a (
    d DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(3)), s LowCardinality(Nullable(String)),
    m Map(String, UInt64), v UInt64, INDEX i s TYPE bloom_filter(0.01) GRANULARITY 4,
    PROJECTION p (SELECT * ORDER BY v))
ENGINE = ReplacingMergeTree(v) PARTITION BY toYYYYMM(d) ORDER BY (d, v) TTL toDateTime(d) + INTERVAL 3 DAY
SETTINGS index_granularity = 8192, deduplicate_merge_projection_mode = 'rebuild',
    lightweight_mutation_projection_mode = 'rebuild'

CREATE OR REPLACE VIEW {db}.v AS
SELECT s, sumIf(v, v > 1) AS n, uniqExactIf(d, 1) AS u, argMax(v, d) AS last
FROM {db}.a FINAL GROUP BY s WITH TOTALS

CREATE MATERIALIZED VIEW {db}.mv ENGINE = AggregatingMergeTree ORDER BY s AS
SELECT ifNull(s, '') AS s, sumState(v) AS n FROM {db}.a GROUP BY s

INSERT INTO {db}.a (d, v) SELECT toDateTime64('2026-01-01 00:00:00', 3) + number, number FROM numbers(10)

INSERT INTO {db}.a (d, v) SETTINGS insert_deduplication_token = 'x', async_insert = 0 VALUES (1, 12)

/* a comment */ insert into `{db}`."a" (d, `v`) -- another
FORMAT CSV
2026-01-02 00:00:00.000,11

ALTER TABLE {db}.a ADD COLUMN IF NOT EXISTS w UInt8 DEFAULT 0, MODIFY TTL toDateTime(d) + INTERVAL 30 DAY

ALTER TABLE {db}.a DELETE WHERE v = 3

ALTER TABLE {db}.a DROP PARTITION 202501

DELETE FROM {db}.a WHERE v = 4

OPTIMIZE TABLE {db}.a FINAL

SELECT count() FROM {db}.v

SELECT * FROM {db}.a FINAL WHERE d >= now() - INTERVAL 1 DAY ORDER BY v DESC LIMIT 5 BY s LIMIT 100

WITH x AS (SELECT v FROM {db}.a) SELECT quantile(0.95)(v), groupArray(v), toStartOfHour(now()) FROM x

SELECT row_number() OVER (PARTITION BY s ORDER BY v) FROM {db}.a

SELECT arrayMap(x -> x + 1, [1, 2]), arrayJoin(['a']), map('a', 1)['a'], (1, 'b').2, x'41'

SELECT * FROM values('a UInt8, b String', (1, 'x'), (2, 'y'))

SELECT v FROM {db}.a SETTINGS max_threads = 1, log_comment = 'report'

SELECT name, value FROM system.settings LIMIT 1

SELECT database, name, total_rows FROM system.tables WHERE database = '{db}'

SELECT sum(rows) FROM system.parts WHERE active

SELECT table_name FROM information_schema.tables LIMIT 1

DESCRIBE TABLE {db}.a

SHOW TABLES FROM {db}

SHOW DATABASES

SHOW CREATE TABLE {db}.a

EXISTS TABLE {db}.a

EXPLAIN indexes = 1 SELECT * FROM {db}.a WHERE v = 1

EXPLAIN PIPELINE SELECT 1

SELECT formatReadableSize(123), IPv4StringToNum('1.2.3.4'), isIPAddressInRange('10.0.0.1', '10.0.0.0/8')

SELECT 'SYSTEM SHUTDOWN; file(''/etc/passwd'') INTO OUTFILE'

TRUNCATE TABLE {db}.a

CREATE TABLE {db}.b AS {db}.a

RENAME TABLE {db}.b TO {db}.c

DROP VIEW {db}.v

DROP DATABASE {db} SYNC
""".strip().split("\n\n")


def test_the_sql_of_migrations_and_reports_runs(store):
    database = f"d{uuid.uuid4().hex[:8]}"
    assert ask(store, f"CREATE DATABASE {database} ENGINE = Atomic").status == 200
    for sql in ALLOWED:
        answered = ask(store, sql.format(db=database))
        assert answered.status == 200, (sql, answered.text)
