-- Who was seen calling what, per month, rolled up from days and kept for ever: a month of a destination is one
-- absolute row per Kafka partition, so writing it again adds nothing.

CREATE TABLE IF NOT EXISTS ${database}.raw_destinations${local}${on_cluster}
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
    destination_port Nullable(Int32) CODEC(ZSTD(1)),
    requests Int64 CODEC(T64, ZSTD(1)),
    first_seen DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    last_seen DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    version UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PRIMARY KEY (window_start, topic, partition, stream_epoch)
ORDER BY (
    window_start, topic, partition, stream_epoch, source_cluster, source_namespace, source_workload, source_ip,
    label, destination_host, destination_port
)
SETTINGS allow_nullable_key = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_destinations${on_cluster} AS ${database}.raw_destinations_local
ENGINE = Distributed('${cluster}', '${database}', raw_destinations_local, cityHash64(topic, partition));
