-- One row per record (record.ENRICHED). The sorting key and the partition hold only what every delivery of a
-- message gives alike, whatever the rules: a rewritten record replaces itself, never stands beside itself.
-- The hour comes first so that FINAL compares new parts with the last hours only. The partition is a week, so
-- that parts are dropped whole at most seven days after their time.

CREATE TABLE IF NOT EXISTS ${database}.raw_events${local}${on_cluster}
(
    event_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    start_time Nullable(DateTime64(3, 'UTC')) CODEC(Delta, ZSTD(1)),
    duration_ms Nullable(Int64) CODEC(T64, ZSTD(1)),
    label LowCardinality(String) CODEC(ZSTD(1)),
    label_evidence LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    confidence LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    upstream_cluster LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    cluster_port Nullable(Int32) CODEC(ZSTD(1)),
    cluster_subset LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_cluster LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_namespace LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_workload LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_pod LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_ip LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_region LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    source_zone LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_host LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_host_source LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    destination_port Nullable(Int32) CODEC(ZSTD(1)),
    destination_ip LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    mismatch Nullable(Bool) CODEC(ZSTD(1)),
    hop LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    protocol LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    method LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    path Nullable(String) CODEC(ZSTD(1)),
    response_code Nullable(Int32) CODEC(ZSTD(1)),
    response_flags Array(LowCardinality(String)) CODEC(ZSTD(1)),
    response_code_details LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    connection_termination_details LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    upstream_transport_failure_reason LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    bytes_sent Nullable(Int64) CODEC(T64, ZSTD(1)),
    bytes_received Nullable(Int64) CODEC(T64, ZSTD(1)),
    upstream_service_time Nullable(Int64) CODEC(T64, ZSTD(1)),
    x_forwarded_for Nullable(String) CODEC(ZSTD(1)),
    user_agent LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    request_id Nullable(String) CODEC(ZSTD(1)),
    route_name LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    requested_server_name LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    authority LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    upstream_host LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    upstream_local_address Nullable(String) CODEC(ZSTD(1)),
    downstream_local_address LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    downstream_remote_address Nullable(String) CODEC(ZSTD(1)),
    format LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    damage LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    rules_version UInt32 CODEC(ZSTD(1)),
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta, ZSTD(1)),
    seq Int32 CODEC(ZSTD(1)),
    kafka_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX by_event_time event_time TYPE minmax GRANULARITY 1,
    INDEX by_source_workload source_workload TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_destination_host destination_host TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ${replicated}ReplacingMergeTree(rules_version)
PARTITION BY toMonday(kafka_timestamp)
ORDER BY (toStartOfHour(kafka_timestamp), topic, partition, stream_epoch, offset, seq, kafka_timestamp)
SETTINGS ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_events${on_cluster} AS ${database}.raw_events_local
ENGINE = Distributed('${cluster}', '${database}', raw_events_local, cityHash64(topic, partition));
