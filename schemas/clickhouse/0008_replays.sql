-- Dead letters that were replayed and could be read: which message of the replay topic applied each part of each origin. The
-- first to do so is the only one, whatever comes later.

CREATE TABLE IF NOT EXISTS ${database}.raw_replays${local}${on_cluster}
(
    origin_stream_epoch LowCardinality(String),
    origin_topic LowCardinality(String),
    origin_partition Int32,
    origin_offset Int64,
    origin_seq Int32,
    stream_epoch LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree
ORDER BY (origin_topic, origin_partition, origin_stream_epoch, origin_offset, origin_seq);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_replays${on_cluster} AS ${database}.raw_replays_local
ENGINE = Distributed('${cluster}', '${database}', raw_replays_local, cityHash64(origin_topic, origin_partition));
