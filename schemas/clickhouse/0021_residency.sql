-- Which residency policy speaks for the callers of a namespace; none is an empty name. `regions` and `hosts` as
-- they are declared, the most exact host first; `region_patterns` are the regions as LIKE reads them, in lower
-- case. A cache like raw_homes.
CREATE TABLE IF NOT EXISTS ${database}.raw_residency${local}${on_cluster}
(
    source_cluster LowCardinality(String),
    source_namespace LowCardinality(String),
    policy LowCardinality(String),
    regions Array(String),
    region_patterns Array(String),
    hosts Array(String),
    unknown_region LowCardinality(String),
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (source_cluster, source_namespace);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_residency${on_cluster} AS ${database}.raw_residency_local
ENGINE = Distributed('${cluster}', '${database}', raw_residency_local, cityHash64(source_namespace));
