"""Which destinations are databases, brokers or caches. Kinds are products: `postgres`, `kafka`, `redis`.

By this order: the operator's word, the protocol of the ServiceEntry or Service that covers it, host names of
the cloud providers' managed databases, well-known ports, and words in the host's name.
"""

from __future__ import annotations

import re
from typing import Final

from egresslens.judge.cover import Candidate
from egresslens.judge.hosts import Hosts
from egresslens.judge.verdict import NOTHING, Verdict
from egresslens.registry.value import parse_ip

# Protocols that Istio has parsers for (pkg/config/protocol).
_PROTOCOLS: Final = {"MONGO": "mongodb", "REDIS": "redis", "MYSQL": "mysql"}

# Registered with IANA or the products' documented defaults. 9000, 8080 and the like are left out: anybody's.
_PORTS: Final[dict[int, str]] = {
    1433: "sqlserver",
    1521: "oracle",
    1522: "oracle",
    1883: "mqtt",
    2181: "zookeeper",
    2379: "etcd",
    2484: "oracle",
    3306: "mysql",
    4222: "nats",
    5432: "postgres",
    5433: "postgres",
    5439: "redshift",
    5671: "rabbitmq",
    5672: "rabbitmq",
    5984: "couchdb",
    6379: "redis",
    6380: "redis",
    6432: "postgres",
    6650: "pulsar",
    6651: "pulsar",
    7687: "neo4j",
    8086: "influxdb",
    8123: "clickhouse",
    8529: "arangodb",
    8883: "mqtt",
    9042: "cassandra",
    9092: "kafka",
    9093: "kafka",
    9094: "kafka",
    9096: "kafka",
    9098: "kafka",
    9142: "cassandra",
    9200: "elasticsearch",
    9300: "elasticsearch",
    9440: "clickhouse",
    11210: "couchbase",
    11211: "memcached",
    26257: "cockroachdb",
    26379: "redis",
    27017: "mongodb",
    27018: "mongodb",
    27019: "mongodb",
    33060: "mysql",
    50000: "db2",
    61616: "activemq",
    61617: "activemq",
}

# Host names of managed databases, as the providers document them. `@port` is a service of several engines:
# the port tells which, and `sql`, `cache` or `broker` stand for any where it does not.
_MANAGED: Final = Hosts(
    (pattern, kind)
    for kind, patterns in {
        "@sql": (
            "*.rds.amazonaws.com *.rds.amazonaws.com.cn *.database.cloud.ovh.net *.db.ondigitalocean.com "
            "*.sql.goog *.aivencloud.com *.rds.aliyuncs.com *.rdbms.oraclecloud.com"
        ),
        "@cache": "*.cache.amazonaws.com *.cache.amazonaws.com.cn",
        "@broker": "*.servicebus.windows.net",
        "redshift": "*.redshift.amazonaws.com *.redshift-serverless.amazonaws.com",
        "mongodb": (
            "*.docdb.amazonaws.com *.mongodb.net *.mongo.cosmos.azure.com *.mongocluster.cosmos.azure.com "
            "*.mongodb.ondigitalocean.com"
        ),
        "cosmosdb": "*.documents.azure.com *.table.cosmos.azure.com *.gremlin.cosmos.azure.com",
        "cassandra": "*.cassandra.cosmos.azure.com *.apps.astra.datastax.com *.db.astra.datastax.com",
        "redis": (
            "*.redis.cache.windows.net *.redis.azure.net *.redisenterprise.cache.azure.net *.redislabs.com "
            "*.redis-cloud.com *.upstash.io"
        ),
        "opensearch": "*.es.amazonaws.com *.aoss.amazonaws.com",
        "elasticsearch": "*.elastic-cloud.com *.cloud.es.io *.found.io *.elastic.cloud",
        "neptune": "*.neptune.amazonaws.com",
        "sqlserver": "*.database.windows.net *.database.chinacloudapi.cn *.database.usgovcloudapi.net",
        "synapse": "*.sql.azuresynapse.net",
        "mysql": "*.mysql.database.azure.com *.psdb.cloud *.tidbcloud.com",
        "mariadb": "*.mariadb.database.azure.com",
        "postgres": "*.postgres.database.azure.com *.neon.tech *.postgres.cosmos.azure.com *.supabase.co",
        "kafka": "*.confluent.cloud *.cloud.redpanda.com",
        "spanner": "spanner.googleapis.com *.spanner.googleapis.com",
        "bigtable": "bigtable.googleapis.com *.bigtable.googleapis.com",
        "firestore": "firestore.googleapis.com *.firestore.googleapis.com",
        "bigquery": "bigquery.googleapis.com bigquerystorage.googleapis.com *.bigquery.googleapis.com",
        "snowflake": "*.snowflakecomputing.com",
        "cockroachdb": "*.cockroachlabs.cloud",
        "clickhouse": "*.clickhouse.cloud",
        "rabbitmq": "*.cloudamqp.com *.rmq.cloudamqp.com",
        "oracle": "*.oraclecloudapps.com *.adb.oraclecloud.com",
        "influxdb": "*.influxdata.com",
        "neo4j": "*.databases.neo4j.io",
    }.items()
    for pattern in patterns.split()
)
# AWS puts the service's name before the region or among the labels: `dynamodb.eu-west-1.amazonaws.com`,
# `b-1.demo.ab12cd.c2.kafka.eu-west-1.amazonaws.com`, `demo.ab12cd.memorydb.eu-west-1.amazonaws.com`.
_AWS: Final = re.compile(r"(?:^|\.)([a-z-]+)\.[a-z]{2}(?:-[a-z]+)+-\d\.amazonaws\.com(?:\.cn)?$")
_AWS_SERVICES: Final = {
    "dynamodb": "dynamodb",
    "kafka": "kafka",
    "kafka-serverless": "kafka",
    "memorydb": "redis",
    "cassandra": "cassandra",
    "mq": "@broker",
    "rds": "@sql",
    "redshift": "redshift",
    "redshift-serverless": "redshift",
    "docdb": "mongodb",
    "docdb-elastic": "mongodb",
    "neptune": "neptune",
    "es": "opensearch",
    "aoss": "opensearch",
    "timestream": "timestream",
    "dsql": "postgres",
}
_GCP_KAFKA: Final = re.compile(r"\.managedkafka\.[a-z0-9-]+\.cloud\.goog$")

_WORDS: Final = re.compile(
    r"(?:^|[-_.0-9])(postgres|postgresql|pgsql|mysql|mariadb|mongo|mongodb|redis|valkey|memcached|kafka|"
    r"rabbitmq|cassandra|elasticsearch|opensearch|clickhouse|cockroachdb|nats|pulsar|etcd|influxdb)(?=$|[-_.0-9])"
)
_SAME: Final = {"postgresql": "postgres", "pgsql": "postgres", "mongo": "mongodb", "valkey": "redis"}


class Kinds:
    """What kind of data service a destination is."""

    def __init__(self, declared: Hosts[str]) -> None:
        self._declared = declared

    def judge(self, host: str | None, port: int | None, covered_by: Candidate | None) -> Verdict:
        """Judge a destination; nothing for what is no database, broker or cache.

        Args:
            host: name or address asked for.
            port: its port, None if not logged.
            covered_by: the ServiceEntry or Service that covers it.
        """
        declared = self._declared.find(host) if host else None
        if declared:
            return Verdict(declared[1], "high", f"declared host {declared[0]}")
        return _by_protocol(port, covered_by) or _by_name(host, port) or _by_port(port) or _by_word(host)


def _by_protocol(port: int | None, covered_by: Candidate | None) -> Verdict:
    protocol = covered_by.ports.get(port, "") if covered_by and port else ""
    if covered_by and protocol in _PROTOCOLS:
        return Verdict(
            _PROTOCOLS[protocol], "high", f"{covered_by.kind} {covered_by.title}: port {port} is {protocol}"
        )
    return NOTHING


def _by_name(host: str | None, port: int | None) -> Verdict:
    if not host:
        return NOTHING
    found = _MANAGED.find(host)
    if found:
        return Verdict(_engine(found[1], port), "high", f"managed database, host {found[0]}")
    match = _AWS.search(host)
    if match and match[1] in _AWS_SERVICES:
        return Verdict(_engine(_AWS_SERVICES[match[1]], port), "high", f"AWS service {match[1]}, by its host")
    if _GCP_KAFKA.search(host):
        return Verdict("kafka", "high", "Google managed Kafka, by its host")
    return NOTHING


def _engine(kind: str, port: int | None) -> str:
    return _PORTS.get(port or 0, kind[1:]) if kind.startswith("@") else kind


def _by_port(port: int | None) -> Verdict:
    kind = _PORTS.get(port or 0)
    return Verdict(kind, "medium", f"port {port}") if kind else NOTHING


def _by_word(host: str | None) -> Verdict:
    if not host or parse_ip(host):
        return NOTHING
    match = _WORDS.search(host)
    if not match:
        return NOTHING
    return Verdict(_SAME.get(match[1], match[1]), "low", f"the host's name says {match[1]}")
