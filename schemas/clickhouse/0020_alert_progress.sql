-- What the alerts process must remember of an incident besides what people see in `alerts`: how far window rows
-- that may still grow are counted (JSON), and which state each receiver was told. Newest row wins.

CREATE TABLE IF NOT EXISTS ${database}.raw_alert_progress${local}${on_cluster}
(
    id String,
    kind LowCardinality(String),
    summary String,
    counted String,
    told Map(LowCardinality(String), LowCardinality(String)),
    updated_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(updated_at)
ORDER BY id;

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_alert_progress${on_cluster} AS ${database}.raw_alert_progress_local
ENGINE = Distributed('${cluster}', '${database}', raw_alert_progress_local, cityHash64(id));
