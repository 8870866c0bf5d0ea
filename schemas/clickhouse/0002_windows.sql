-- Windows as absolute state: one row per window, key and Kafka partition, true at `last_offset`. `version`
-- orders the states of a row, whoever wrote them: the rules first, then the offset (at most 44 bits). A row
-- with 0 requests is withdrawn.
-- Nullable columns in the sorting key keep "absent is null" without a value that stands for it; the primary
-- key ends before them.

CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1m${local}${on_cluster}
(
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    window_start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    source_cluster LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_namespace LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_workload LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_ip LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    label LowCardinality(String) CODEC(ZSTD(1)),
    destination_host LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_host_source LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_port Nullable(Int32) CODEC(ZSTD(1)),
    protocol LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    hop LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    response_code Nullable(Int32) CODEC(ZSTD(1)),
    requests Int64 CODEC(T64, ZSTD(1)),
    mismatches Int64 CODEC(T64, ZSTD(1)),
    bytes_sent Int64 CODEC(T64, ZSTD(1)),
    bytes_received Int64 CODEC(T64, ZSTD(1)),
    duration_ms_sum Int64 CODEC(T64, ZSTD(1)),
    duration_ms_max Int64 CODEC(T64, ZSTD(1)),
    duration_buckets Array(Int64) CODEC(ZSTD(1)),
    destination_ips Array(LowCardinality(String)) CODEC(ZSTD(1)),
    first_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    last_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    rules_version UInt32 CODEC(ZSTD(1)),
    last_offset Int64 CODEC(Delta, ZSTD(1)),
    version UInt64 MATERIALIZED bitShiftLeft(toUInt64(rules_version), 44) + toUInt64(last_offset)
        CODEC(Delta, ZSTD(1)),
    INDEX by_source_workload source_workload TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination_host destination_host TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, topic, partition, stream_epoch)
ORDER BY (
    window_start, topic, partition, stream_epoch, source_cluster, source_namespace, source_workload, source_ip,
    label, destination_host, destination_host_source, destination_port, protocol, hop, response_code
)
SETTINGS allow_nullable_key = 1, ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1m${on_cluster} AS ${database}.raw_windows_1m_local
ENGINE = Distributed('${cluster}', '${database}', raw_windows_1m_local, cityHash64(topic, partition));

-- The newest version of any minute of an hour: what a rolled hour must have reached to be used.
CREATE TABLE IF NOT EXISTS ${database}.raw_changed_hours${local}${on_cluster}
(
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    window_start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    version SimpleAggregateFunction(max, UInt64)
)
ENGINE = ${replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(window_start)
ORDER BY (window_start, topic, partition, stream_epoch)
SETTINGS ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_changed_hours${on_cluster} AS ${database}.raw_changed_hours_local
ENGINE = Distributed('${cluster}', '${database}', raw_changed_hours_local, cityHash64(topic, partition));

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.raw_changed_hours_feed${on_cluster}
TO ${database}.raw_changed_hours${local}
AS SELECT
    stream_epoch,
    topic,
    partition,
    toStartOfHour(minute.window_start) AS window_start,
    max(bitShiftLeft(toUInt64(rules_version), 44) + toUInt64(last_offset)) AS version
FROM ${database}.raw_windows_1m${local} AS minute
GROUP BY stream_epoch, topic, partition, window_start;

-- Hours, rolled up from exact minutes. `version` is the highest of the minutes in the row.
CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1h${local}${on_cluster}
(
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    window_start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    source_cluster LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_namespace LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_workload LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_ip LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    label LowCardinality(String) CODEC(ZSTD(1)),
    destination_host LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_host_source LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_port Nullable(Int32) CODEC(ZSTD(1)),
    protocol LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    hop LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    response_code Nullable(Int32) CODEC(ZSTD(1)),
    requests Int64 CODEC(T64, ZSTD(1)),
    mismatches Int64 CODEC(T64, ZSTD(1)),
    bytes_sent Int64 CODEC(T64, ZSTD(1)),
    bytes_received Int64 CODEC(T64, ZSTD(1)),
    duration_ms_sum Int64 CODEC(T64, ZSTD(1)),
    duration_ms_max Int64 CODEC(T64, ZSTD(1)),
    duration_buckets Array(Int64) CODEC(ZSTD(1)),
    destination_ips Array(LowCardinality(String)) CODEC(ZSTD(1)),
    first_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    last_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    version UInt64 CODEC(Delta, ZSTD(1)),
    INDEX by_source_workload source_workload TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination_host destination_host TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, topic, partition, stream_epoch)
ORDER BY (
    window_start, topic, partition, stream_epoch, source_cluster, source_namespace, source_workload, source_ip,
    label, destination_host, destination_host_source, destination_port, protocol, hop, response_code
)
SETTINGS allow_nullable_key = 1, ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1h${on_cluster} AS ${database}.raw_windows_1h_local
ENGINE = Distributed('${cluster}', '${database}', raw_windows_1h_local, cityHash64(topic, partition));

-- Days, rolled up from hours.
CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1d${local}${on_cluster}
(
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    window_start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    source_cluster LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_namespace LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_workload LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_ip LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    label LowCardinality(String) CODEC(ZSTD(1)),
    destination_host LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_host_source LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_port Nullable(Int32) CODEC(ZSTD(1)),
    protocol LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    hop LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    response_code Nullable(Int32) CODEC(ZSTD(1)),
    requests Int64 CODEC(T64, ZSTD(1)),
    mismatches Int64 CODEC(T64, ZSTD(1)),
    bytes_sent Int64 CODEC(T64, ZSTD(1)),
    bytes_received Int64 CODEC(T64, ZSTD(1)),
    duration_ms_sum Int64 CODEC(T64, ZSTD(1)),
    duration_ms_max Int64 CODEC(T64, ZSTD(1)),
    duration_buckets Array(Int64) CODEC(ZSTD(1)),
    destination_ips Array(LowCardinality(String)) CODEC(ZSTD(1)),
    first_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    last_event DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    version UInt64 CODEC(Delta, ZSTD(1)),
    INDEX by_source_workload source_workload TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination_host destination_host TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (window_start, topic, partition, stream_epoch)
ORDER BY (
    window_start, topic, partition, stream_epoch, source_cluster, source_namespace, source_workload, source_ip,
    label, destination_host, destination_host_source, destination_port, protocol, hop, response_code
)
SETTINGS allow_nullable_key = 1, ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_windows_1d${on_cluster} AS ${database}.raw_windows_1d_local
ENGINE = Distributed('${cluster}', '${database}', raw_windows_1d_local, cityHash64(topic, partition));

-- Which window of a tier ('1h', '1d', '1M') was rolled up, and up to which version. Written after its rows.
CREATE TABLE IF NOT EXISTS ${database}.raw_rolled${local}${on_cluster}
(
    tier LowCardinality(String),
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    window_start DateTime('UTC') CODEC(Delta, ZSTD(1)),
    version UInt64,
    rolled_at DateTime('UTC') DEFAULT now()
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (tier, window_start, topic, partition, stream_epoch);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_rolled${on_cluster} AS ${database}.raw_rolled_local
ENGINE = Distributed('${cluster}', '${database}', raw_rolled_local, cityHash64(topic, partition));
