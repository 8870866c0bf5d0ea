-- What was removed on purpose, by whom it was asked and how much it was: evidence must say what it no longer has.

CREATE TABLE IF NOT EXISTS ${database}.raw_purges${local}${on_cluster}
(
    purged_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    source_namespace Nullable(String),
    source_workload Nullable(String),
    destination_host Nullable(String),
    first_day Date,
    last_day Date,
    rows Map(LowCardinality(String), UInt64)
)
ENGINE = ${replicated}MergeTree
ORDER BY purged_at;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_purges${on_cluster} AS ${database}.raw_purges_local
ENGINE = Distributed('${cluster}', '${database}', raw_purges_local, rand());
