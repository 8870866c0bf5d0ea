-- Statements of `egresslens console`, one per section. `edges` is the whole graph, the others are about one edge or
-- about what the filters leave.

-- section: caller
row.source_cluster AS source_cluster,
coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL) AS source_ip

-- section: has_sidecar
max(hop = 'sidecar') OVER (
    PARTITION BY source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port
) AS has_sidecar

-- The calls of report.sql, summed over the range before they are judged: a page that is looked at all day must not
-- judge every window of every edge anew. So a destination's region is that of all its addresses in the range, where
-- the reports tell windows apart; counts are the same. Where no workload is known, windows stay apart: the address
-- may have been another pod's in each.
-- section: summed_rows
(
    WITH if(
        response_code >= 400 OR (response_code = 0 AND startsWith(ifNull(protocol, ''), 'HTTP')), part.requests, 0
    ) AS failed
    SELECT
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port, hop,
        ifNull(destination_host_source = 'registry', false) AS registered,
        if(source_workload IS NULL, last_event, NULL) AS apart,
        sum(part.requests) AS requests,
        sum(failed) AS errors,
        groupArray(
            (window_start, response_code, part.requests, failed, part.bytes_sent, part.bytes_received)
        ) AS windows,
        sum(part.mismatches) AS mismatches,
        sum(part.bytes_received) AS bytes_received,
        sum(part.bytes_sent) AS bytes_sent,
        max(part.duration_ms_max) AS slowest,
        sumForEach(part.duration_buckets) AS buckets,
        groupUniqArrayArray(16)(part.destination_ips) AS ips,
        min(part.first_event) AS first_seen,
        max(part.last_event) AS last_seen,
        max(part.last_event) AS seen_at
    FROM ${rows} AS part
    WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')} AND hop != 'gateway'
    GROUP BY
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port, hop,
        registered, apart
)

-- Judged in two steps: planning it as one, as the views have it, takes longer than reading.
-- section: flows
(
    SELECT * EXCEPT (hop, has_sidecar)
    FROM
    (
        SELECT
            ${caller},
            label, destination_host, destination_port, hop,
            destination_scope, destination_region, destination_kind, service_entry, service_entry_reason,
            requests, errors, mismatches, bytes_received, bytes_sent, first_seen, last_seen,
            ${has_sidecar}
        FROM
        (
            WITH ${judged_by}
            SELECT row.*, ${pod_columns}, ${judgements}
            FROM
            (
                WITH ${address_with}
                SELECT *, host_differs, ip_scope, scope_at, ip_regions, region_at, ip_geos, geo_at
                FROM ${summed_rows} AS row
                ${judged_joins}
            ) AS row
        ) AS row
        WHERE 1${narrow}
    )
    WHERE hop = 'sidecar' OR has_sidecar = 0
)

-- The same without judgements, for what only counts: who called is all that it must know.
-- section: counted_flows
(
    SELECT * EXCEPT (hop, has_sidecar)
    FROM
    (
        SELECT
            ${caller},
            label, destination_host, destination_port, hop, windows, slowest, buckets,
            ${has_sidecar}
        FROM
        (
            WITH ${pod_with}
            SELECT row.*, ${pod_columns}
            FROM ${summed_rows} AS row
            ${pod_join}
        ) AS row
        WHERE 1${narrow}
    )
    WHERE hop = 'sidecar' OR has_sidecar = 0
)

-- One row per source, label and destination; seen_first: nobody in the mesh called it before the range.
-- section: edges
SELECT
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port,
    min(call.destination_scope) AS destination_scope,
    any(call.destination_kind) AS destination_kind,
    any(call.destination_region) AS destination_region,
    any(call.service_entry) AS service_entry,
    max(call.service_entry_reason IS NULL) AS is_not_judged,
    sum(call.requests) AS requests,
    sum(call.errors) AS errors,
    sum(call.mismatches) AS mismatches,
    sum(call.bytes_sent) AS bytes_sent,
    sum(call.bytes_received) AS bytes_received,
    min(call.first_seen) AS first_seen,
    max(call.last_seen) AS last_seen,
    destination_host IS NOT NULL
    AND (ifNull(source_cluster, ''), ifNull(destination_host, ''), ifNull(destination_port, 0)) NOT IN
    (
        SELECT ifNull(source_cluster, ''), ifNull(destination_host, ''), ifNull(destination_port, 0)
        FROM ${database}.raw_rows_destinations AS row
        WHERE window_start < {since:DateTime('UTC')} AND first_seen < {since:DateTime('UTC')}${narrow_destination}
    ) AS seen_first
FROM ${flows} AS call
WHERE has({labels:Array(String)}, label)
GROUP BY source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port
ORDER BY
    requests DESC, source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_port
LIMIT {limit:UInt32}

-- section: timeline
SELECT
    one.1 AS start, label,
    sum(one.3) AS requests, sum(one.4) AS errors, sum(one.5) AS bytes_sent, sum(one.6) AS bytes_received
FROM
(
    SELECT label, arrayJoin(call.windows) AS one
    FROM ${counted_flows} AS call
    WHERE has({labels:Array(String)}, label)
)
GROUP BY start, label
ORDER BY start, label

-- The time line where it does not matter who called, and nothing was told twice: `others` are windows of proxies
-- beside the sidecars, whose calls a sidecar may have told too.
-- section: plain_timeline
SELECT
    window_start AS start, label,
    sum(row.requests) AS requests,
    sum(
        if(
            response_code >= 400 OR (response_code = 0 AND startsWith(ifNull(protocol, ''), 'HTTP')), row.requests, 0
        )
    ) AS errors,
    sum(row.bytes_sent) AS bytes_sent, sum(row.bytes_received) AS bytes_received,
    countIf(hop != 'sidecar') AS others
FROM ${rows} AS row
WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')} AND hop != 'gateway'
    AND has({labels:Array(String)}, label)${narrow}
GROUP BY start, label
ORDER BY start, label

-- section: codes
SELECT one.2 AS response_code, sum(one.3) AS requests
FROM
(
    SELECT arrayJoin(call.windows) AS one
    FROM ${counted_flows} AS call
    WHERE has({labels:Array(String)}, label)
)
GROUP BY response_code
ORDER BY requests DESC, response_code

-- section: durations
WITH ${bounds} AS bounds, arrayCumSum(buckets) AS filled, ${latency} AS latency
SELECT
    if(filled[-1] > 0, latency[1], NULL) AS p50_ms, if(filled[-1] > 0, latency[2], NULL) AS p95_ms,
    slowest AS max_ms, buckets AS counts
FROM
(
    SELECT max(call.slowest) AS slowest, sumForEach(call.buckets) AS buckets
    FROM ${counted_flows} AS call
    WHERE has({labels:Array(String)}, label)
)

-- What an edge's single records say, as long as they are kept. Flags and proofs are few; more are cut.
-- section: flags
SELECT arrayJoin(response_flags) AS flag, count() AS records
FROM ${events} AS row
WHERE has({labels:Array(String)}, label) AND hop != 'gateway'${narrow_events}
GROUP BY flag
ORDER BY records DESC, flag
LIMIT 100

-- section: evidence
SELECT
    label_evidence,
    multiIf(
        label_evidence = 'cluster', ifNull(upstream_cluster, ''),
        label_evidence = 'route', ifNull(route_name, ''),
        label_evidence = 'flags', arrayStringConcat(response_flags, ','),
        ''
    ) AS proof,
    count() AS records
FROM ${events} AS row
WHERE has({labels:Array(String)}, label) AND hop != 'gateway'${narrow_events}
GROUP BY label_evidence, proof
ORDER BY records DESC, label_evidence, proof
LIMIT 20

-- section: records
SELECT *
FROM ${events} AS row
WHERE has({labels:Array(String)}, label) AND hop != 'gateway'${narrow_events}
ORDER BY event_time DESC, topic, partition, offset DESC, seq DESC
LIMIT 20

-- section: addresses
SELECT arraySort(groupUniqArrayArray(16)(row.destination_ips)) AS destination_ips
FROM ${windows} AS row
WHERE has({labels:Array(String)}, label) AND hop != 'gateway'${narrow}

-- The hosts of a registrable domain, by what their names end in; who owns them is told by the public suffix list.
-- section: hosts
SELECT DISTINCT destination_host
FROM ${windows} AS row
WHERE has({labels:Array(String)}, label) AND hop != 'gateway'${narrow}
ORDER BY destination_host
LIMIT 10000

-- Between homes and regions, from the report of the regions.
-- section: matrix
SELECT
    if(empty(home_regions), NULL, arrayStringConcat(home_regions, ', ')) AS home_region, destination_region, place,
    sum(flow.requests) AS requests,
    sum(flow.bytes_received) AS bytes_received, sum(flow.bytes_sent) AS bytes_sent
FROM (${regions}) AS flow
GROUP BY home_region, destination_region, place
ORDER BY requests DESC, home_region, destination_region, place
LIMIT 1000

-- What the filters may be set to: who called in the range, by name; of pods without names in their records, those
-- that were there. The tables themselves: a name twice, or of a row that was withdrawn, does no harm.
-- section: workloads
SELECT DISTINCT source_cluster, source_namespace, source_workload
FROM
(
    SELECT source_cluster, source_namespace, source_workload
    FROM ${database}.raw_windows_1m
    WHERE window_start >= {recent:DateTime('UTC')} AND window_start < {until:DateTime('UTC')}
    UNION ALL
    SELECT source_cluster, source_namespace, source_workload
    FROM ${database}.raw_windows_${tier}
    WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')}
    UNION ALL
    SELECT source_cluster, namespace AS source_namespace, workload AS source_workload
    FROM ${pods}
)
WHERE source_workload IS NOT NULL
ORDER BY source_cluster, source_namespace, source_workload
LIMIT {limit:UInt32}
