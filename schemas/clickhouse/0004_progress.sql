-- What became of each Kafka partition's messages so far: absolute, true at `last_offset`, kept for ever.
-- Each message counts once in messages_with_records, messages_rejected or messages_filtered (the first that
-- holds); `records`, `filtered` and `rejected` count the parts of messages.

CREATE TABLE IF NOT EXISTS ${database}.raw_progress${local}${on_cluster}
(
    stream_epoch LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    first_offset Int64 DEFAULT 0,
    last_offset Int64,
    messages Int64,
    messages_with_records Int64 DEFAULT 0,
    messages_filtered Int64 DEFAULT 0,
    messages_rejected Int64 DEFAULT 0,
    records Int64,
    events Int64,
    filtered Map(LowCardinality(String), Int64),
    rejected Map(LowCardinality(String), Int64),
    gaps Int64,
    past_retention Map(LowCardinality(String), Int64),
    rules_version UInt32,
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    version UInt64 MATERIALIZED bitShiftLeft(toUInt64(rules_version), 44) + toUInt64(last_offset)
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (topic, partition, stream_epoch);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_progress${on_cluster} AS ${database}.raw_progress_local
ENGINE = Distributed('${cluster}', '${database}', raw_progress_local, cityHash64(topic, partition));
