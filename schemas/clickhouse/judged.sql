-- The published views of facts, with the judgements beside them (after views.sql, which has the facts alone as
-- raw_view_…). Filters reach the tables below both joins, and columns that nobody asks for cost next to nothing;
-- see docs/decisions/registry.md for the figures. Also what people declared, as they declared it.

CREATE OR REPLACE VIEW ${database}.registry${on_cluster} AS
SELECT
    cluster, kind, namespace, name, valid_from,
    nullIf(
        leadInFrame(valid_from, 1, toDateTime64('2299-12-31 00:00:00', 3, 'UTC')) OVER (
            PARTITION BY cluster, kind, namespace, name ORDER BY valid_from
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ),
        toDateTime64('2299-12-31 00:00:00', 3, 'UTC')
    ) AS valid_to,
    removed, object
FROM ${database}.raw_registry FINAL;

CREATE OR REPLACE VIEW ${database}.pods${on_cluster} AS
SELECT
    nullIf(cluster, '') AS source_cluster, namespace, workload, pod, address, node, region, zone, has_proxy,
    valid_from, nullIf(valid_to, toDateTime64('2299-12-31 00:00:00', 3, 'UTC')) AS valid_to
FROM ${database}.raw_pods FINAL;

CREATE OR REPLACE VIEW ${database}.homes${on_cluster} AS
SELECT
    nullIf(source_cluster, '') AS source_cluster, nullIf(source_namespace, '') AS source_namespace,
    nullIf(source_workload, '') AS source_workload, regions, confidence, reason
FROM ${database}.raw_homes FINAL;

CREATE OR REPLACE VIEW ${database}.residency${on_cluster} AS
SELECT
    nullIf(source_cluster, '') AS source_cluster, nullIf(source_namespace, '') AS source_namespace,
    nullIf(policy, '') AS residency_policy, regions, region_patterns, hosts, unknown_region
FROM ${database}.raw_residency FINAL;

CREATE OR REPLACE VIEW ${database}.events${on_cluster} AS
WITH ${judged_with}
SELECT ${judged_columns}
FROM
(
    SELECT
        *, event_time AS seen_at, if(destination_ip IS NULL, [], [assumeNotNull(destination_ip)]) AS ips,
        ifNull(destination_host_source = 'registry', false) AS registered
    FROM ${database}.raw_view_events
) AS row
${judged_joins};

CREATE OR REPLACE VIEW ${database}.windows_1m${on_cluster} AS
WITH ${judged_with}
SELECT ${judged_columns}
FROM
(
    SELECT
        *, last_event AS seen_at, destination_ips AS ips,
        ifNull(destination_host_source = 'registry', false) AS registered
    FROM ${database}.raw_view_windows_1m
) AS row
${judged_joins};

CREATE OR REPLACE VIEW ${database}.windows_1h${on_cluster} AS
WITH ${judged_with}
SELECT ${judged_columns}
FROM
(
    SELECT
        *, last_event AS seen_at, destination_ips AS ips,
        ifNull(destination_host_source = 'registry', false) AS registered
    FROM ${database}.raw_view_windows_1h
) AS row
${judged_joins};

CREATE OR REPLACE VIEW ${database}.windows_1d${on_cluster} AS
WITH ${judged_with}
SELECT ${judged_columns}
FROM
(
    SELECT
        *, last_event AS seen_at, destination_ips AS ips,
        ifNull(destination_host_source = 'registry', false) AS registered
    FROM ${database}.raw_view_windows_1d
) AS row
${judged_joins};

-- Neither addresses nor the names' sources are kept per month: a name that the mesh may have given counts.
CREATE OR REPLACE VIEW ${database}.destinations${on_cluster} AS
WITH ${judged_with}
SELECT ${judged_columns}
FROM
(
    SELECT
        *, last_seen AS seen_at, CAST([], 'Array(String)') AS ips, has(labels, 'outbound') AS registered
    FROM ${database}.raw_view_destinations
) AS row
${judged_joins};
