-- What people declare about the mesh, with its history, and what follows from it for what was seen. Judgements are
-- a cache of `egresslens.judge`, made anew whenever the registry changes: no fact is stored in them.

-- One row per change of an object; `object` is its JSON, empty where it was removed. An object is what its newest
-- row says. `cluster` is what records call the cluster; empty is any.
CREATE TABLE IF NOT EXISTS ${database}.raw_registry${local}${on_cluster}
(
    cluster LowCardinality(String),
    kind LowCardinality(String),
    namespace String,
    name String,
    valid_from DateTime64(3, 'UTC'),
    removed Bool,
    object String CODEC(ZSTD(3))
)
ENGINE = ${replicated}ReplacingMergeTree
ORDER BY (cluster, kind, namespace, name, valid_from);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_registry${on_cluster} AS ${database}.raw_registry_local
ENGINE = Distributed('${cluster}', '${database}', raw_registry_local, cityHash64(kind, namespace, name));

-- The pods behind addresses, and when. `valid_to` is far in the future while the pod is there.
CREATE TABLE IF NOT EXISTS ${database}.raw_pods${local}${on_cluster}
(
    cluster LowCardinality(String),
    address String,
    valid_from DateTime64(3, 'UTC'),
    namespace LowCardinality(String),
    pod String,
    valid_to DateTime64(3, 'UTC'),
    workload LowCardinality(String),
    node LowCardinality(String),
    region LowCardinality(Nullable(String)),
    zone LowCardinality(Nullable(String)),
    has_proxy Bool,
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (cluster, address, valid_from, namespace, pod);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_pods${on_cluster} AS ${database}.raw_pods_local
ENGINE = Distributed('${cluster}', '${database}', raw_pods_local, cityHash64(address));

-- What a destination's name and port say, for callers of one namespace (judge.NameVerdicts). Absent names and
-- ports are '' and 0. Declared verdicts beat those of addresses, the others only fill in for them.
CREATE TABLE IF NOT EXISTS ${database}.raw_judgements${local}${on_cluster}
(
    source_cluster LowCardinality(String),
    source_namespace LowCardinality(String),
    destination_host String,
    destination_port Int32,
    service_entry LowCardinality(Nullable(String)),
    service_entry_reason LowCardinality(Nullable(String)),
    declared_scope LowCardinality(Nullable(String)),
    declared_scope_confidence LowCardinality(Nullable(String)),
    declared_scope_reason LowCardinality(Nullable(String)),
    scope LowCardinality(Nullable(String)),
    scope_confidence LowCardinality(Nullable(String)),
    scope_reason LowCardinality(Nullable(String)),
    declared_region LowCardinality(Nullable(String)),
    declared_region_confidence LowCardinality(Nullable(String)),
    declared_region_reason LowCardinality(Nullable(String)),
    region LowCardinality(Nullable(String)),
    region_confidence LowCardinality(Nullable(String)),
    region_reason LowCardinality(Nullable(String)),
    kind LowCardinality(Nullable(String)),
    kind_confidence LowCardinality(Nullable(String)),
    kind_reason LowCardinality(Nullable(String)),
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (destination_host, destination_port, source_namespace, source_cluster);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_judgements${on_cluster} AS ${database}.raw_judgements_local
ENGINE = Distributed('${cluster}', '${database}', raw_judgements_local, cityHash64(destination_host));

-- What the addresses say that a host was seen at (judge.AddressVerdicts): scope, region by tables, region by the
-- geographic database.
CREATE TABLE IF NOT EXISTS ${database}.raw_judged_addresses${local}${on_cluster}
(
    source_cluster LowCardinality(String),
    destination_host String,
    address String,
    scope LowCardinality(Nullable(String)),
    scope_confidence LowCardinality(Nullable(String)),
    scope_reason LowCardinality(Nullable(String)),
    region LowCardinality(Nullable(String)),
    region_confidence LowCardinality(Nullable(String)),
    region_reason LowCardinality(Nullable(String)),
    geo LowCardinality(Nullable(String)),
    geo_confidence LowCardinality(Nullable(String)),
    geo_reason LowCardinality(Nullable(String)),
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (destination_host, source_cluster, address);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_judged_addresses${on_cluster} AS ${database}.raw_judged_addresses_local
ENGINE = Distributed('${cluster}', '${database}', raw_judged_addresses_local, cityHash64(destination_host));

-- The same by host, for the views. Where all addresses of the host say the same, it is what they say, and the
-- arrays are empty; where they differ, each address has its element in all of them. Absent is ''.
CREATE TABLE IF NOT EXISTS ${database}.raw_judged_hosts${local}${on_cluster}
(
    source_cluster LowCardinality(String),
    destination_host String,
    is_address Bool,
    scope LowCardinality(String),
    scope_reason LowCardinality(String),
    region LowCardinality(String),
    region_confidence LowCardinality(String),
    region_reason LowCardinality(String),
    geo LowCardinality(String),
    geo_confidence LowCardinality(String),
    geo_reason LowCardinality(String),
    addresses Array(String),
    scopes Array(String),
    scope_reasons Array(String),
    regions Array(String),
    region_confidences Array(String),
    region_reasons Array(String),
    geos Array(String),
    geo_confidences Array(String),
    geo_reasons Array(String),
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (destination_host, source_cluster);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_judged_hosts${on_cluster} AS ${database}.raw_judged_hosts_local
ENGINE = Distributed('${cluster}', '${database}', raw_judged_hosts_local, cityHash64(destination_host));

-- Where a workload is at home; no regions is unknown.
CREATE TABLE IF NOT EXISTS ${database}.raw_homes${local}${on_cluster}
(
    source_cluster LowCardinality(String),
    source_namespace LowCardinality(String),
    source_workload LowCardinality(String),
    regions Array(LowCardinality(String)),
    confidence LowCardinality(Nullable(String)),
    reason LowCardinality(Nullable(String)),
    judged_at DateTime64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(judged_at)
ORDER BY (source_cluster, source_namespace, source_workload);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_homes${on_cluster} AS ${database}.raw_homes_local
ENGINE = Distributed('${cluster}', '${database}', raw_homes_local, cityHash64(source_namespace, source_workload));
