-- One row per alert, the state last written wins.

CREATE TABLE IF NOT EXISTS ${database}.raw_alerts${local}${on_cluster}
(
    id String,
    rule LowCardinality(String),
    severity LowCardinality(String),
    state LowCardinality(String),
    source_cluster LowCardinality(Nullable(String)),
    source_namespace LowCardinality(Nullable(String)),
    source_workload LowCardinality(Nullable(String)),
    source_ip LowCardinality(Nullable(String)),
    destination_host LowCardinality(Nullable(String)),
    destination_port Nullable(Int32),
    first_seen DateTime64(3, 'UTC'),
    last_seen DateTime64(3, 'UTC'),
    count Int64,
    details String COMMENT 'JSON object',
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(updated_at)
ORDER BY id;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_alerts${on_cluster} AS ${database}.raw_alerts_local
ENGINE = Distributed('${cluster}', '${database}', raw_alerts_local, cityHash64(id));
