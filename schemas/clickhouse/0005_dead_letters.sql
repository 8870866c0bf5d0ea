-- Records that could not be read, with their message's bytes (bounded; `raw_size` is the whole length). `whole`:
-- nothing else of the message was applied, so a replay applies all of it; else only the part `seq`.

CREATE TABLE IF NOT EXISTS ${database}.raw_dead_letters${local}${on_cluster}
(
    rules_version UInt32 CODEC(ZSTD(1)),
    stream_epoch LowCardinality(String) CODEC(ZSTD(1)),
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition Int32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta, ZSTD(1)),
    seq Int32 CODEC(ZSTD(1)),
    kafka_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    field LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    raw String CODEC(ZSTD(3)),
    raw_size Int64 CODEC(T64, ZSTD(1)),
    whole Bool CODEC(ZSTD(1))
)
ENGINE = ${replicated}ReplacingMergeTree(rules_version)
PARTITION BY toYYYYMM(kafka_timestamp)
ORDER BY (toStartOfHour(kafka_timestamp), topic, partition, stream_epoch, offset, seq, kafka_timestamp)
SETTINGS ttl_only_drop_parts = 1;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_dead_letters${on_cluster} AS ${database}.raw_dead_letters_local
ENGINE = Distributed('${cluster}', '${database}', raw_dead_letters_local, cityHash64(topic, partition));
