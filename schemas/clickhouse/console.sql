-- Statements of `egresslens console`, one per section. `edges` is the whole graph, the others are about one edge or
-- about what the filters leave.

-- The calls of report.sql, summed over the range before they are judged: a page that is looked at all day must not
-- judge every window of every edge anew. So a destination's region is that of all its addresses in the range, where
-- the reports tell windows apart; counts are the same. Where no workload is known, windows stay apart: the address
-- may have been another pod's in each.
-- section: flows
(
    SELECT * EXCEPT (hop, has_sidecar)
    FROM
    (
        SELECT
            ${window}row.source_cluster AS source_cluster,
            coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
            coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
            if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL) AS source_ip,
            label, destination_host, destination_port, hop,
            destination_scope, destination_region, destination_kind, service_entry,
            requests, errors, mismatches, bytes_received, bytes_sent, slowest, buckets, first_seen, last_seen,
            max(hop = 'sidecar') OVER (
                PARTITION BY source_cluster, source_namespace, source_workload, source_ip, destination_host,
                destination_port
            ) AS has_sidecar
        FROM
        (
            WITH ${judged_with}
            SELECT ${judged_columns}
            FROM
            (
                SELECT
                    ${window}source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
                    destination_port, hop, ifNull(destination_host_source = 'registry', false) AS registered,
                    if(source_workload IS NULL, last_event, NULL) AS apart,
                    sum(part.requests) AS requests,
                    sumIf(
                        part.requests,
                        response_code >= 400
                        OR (response_code = 0 AND startsWith(ifNull(protocol, ''), 'HTTP'))
                    ) AS errors,
                    sum(part.mismatches) AS mismatches,
                    sum(part.bytes_received) AS bytes_received,
                    sum(part.bytes_sent) AS bytes_sent,
                    max(part.duration_ms_max) AS slowest,
                    sumForEach(part.duration_buckets) AS buckets,
                    groupUniqArrayArray(16)(part.destination_ips) AS ips,
                    min(part.first_event) AS first_seen,
                    max(part.last_event) AS last_seen,
                    max(part.last_event) AS seen_at
                FROM ${facts} AS part
                WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')}
                    AND hop != 'gateway'
                GROUP BY
                    ${window}source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
                    destination_port, hop, registered, apart
            ) AS row
            ${judged_joins}
        ) AS row
        WHERE 1${narrow}
    )
    WHERE hop = 'sidecar' OR has_sidecar = 0
)

-- One row per source, label and destination. Beyond the limit the rest is one row per label. The heaviest of each
-- label come in turn, so that a flood of one label (an attacker's many names) never pushes out another's.
-- section: edges
SELECT
    if(kept, ranked.source_cluster, NULL) AS source_cluster,
    if(kept, ranked.source_namespace, NULL) AS source_namespace,
    if(kept, ranked.source_workload, NULL) AS source_workload,
    if(kept, ranked.source_ip, NULL) AS source_ip,
    label,
    if(kept, ranked.destination_host, '(other)') AS destination_host,
    if(kept, ranked.destination_port, NULL) AS destination_port,
    if(kept, any(ranked.destination_scope), NULL) AS destination_scope,
    if(kept, any(ranked.destination_kind), NULL) AS destination_kind,
    if(kept, any(ranked.destination_region), NULL) AS destination_region,
    if(kept, any(ranked.service_entry), NULL) AS service_entry,
    sum(ranked.requests) AS requests,
    sum(ranked.errors) AS errors,
    sum(ranked.mismatches) AS mismatches,
    sum(ranked.bytes_sent) AS bytes_sent,
    sum(ranked.bytes_received) AS bytes_received,
    count() AS edges,
    if(
        kept, max(ranked.sources),
        uniqExact((ranked.source_cluster, ranked.source_namespace, ranked.source_workload, ranked.source_ip))
    ) AS sources,
    uniqExact((ranked.destination_host, ranked.destination_port)) AS destinations,
    min(ranked.first_seen) AS first_seen,
    max(ranked.last_seen) AS last_seen,
    max(ranked.all_sources) AS all_sources,
    max(ranked.all_destinations) AS all_destinations
FROM
(
    SELECT *, row_number() OVER (ORDER BY turn, weight DESC, label) <= {edges:UInt32} AS kept
    FROM
    (
        SELECT
            *,
            if({measure:String} = 'bytes', bytes_sent + bytes_received, requests) AS weight,
            row_number() OVER (
                PARTITION BY label
                ORDER BY weight DESC, source_cluster, source_namespace, source_workload, source_ip, destination_host,
                destination_port
            ) AS turn,
            uniqExact((source_cluster, source_namespace, source_workload, source_ip)) OVER () AS all_sources,
            uniqExact((destination_host, destination_port)) OVER () AS all_destinations
        FROM
        (
            SELECT
                call.source_cluster AS source_cluster,
                call.source_namespace AS source_namespace,
                if({by_namespace:Bool}, NULL, call.source_workload) AS source_workload,
                if({by_namespace:Bool}, NULL, call.source_ip) AS source_ip,
                label, destination_host, destination_port,
                uniqExact((call.source_workload, call.source_ip)) AS sources,
                min(call.destination_scope) AS destination_scope,
                any(call.destination_kind) AS destination_kind,
                any(call.destination_region) AS destination_region,
                any(call.service_entry) AS service_entry,
                sum(call.requests) AS requests,
                sum(call.errors) AS errors,
                sum(call.mismatches) AS mismatches,
                sum(call.bytes_sent) AS bytes_sent,
                sum(call.bytes_received) AS bytes_received,
                min(call.first_seen) AS first_seen,
                max(call.last_seen) AS last_seen
            FROM ${flows} AS call
            WHERE has({labels:Array(String)}, label)
            GROUP BY
                source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
                destination_port
        )
    )
) AS ranked
GROUP BY
    kept, source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port
ORDER BY
    kept DESC, requests DESC, label, source_cluster, source_namespace, source_workload, source_ip,
    destination_host, destination_port

-- section: timeline
SELECT
    window_start AS start, label,
    sum(call.requests) AS requests, sum(call.errors) AS errors,
    sum(call.bytes_sent) AS bytes_sent, sum(call.bytes_received) AS bytes_received
FROM ${flows} AS call
WHERE has({labels:Array(String)}, label)
GROUP BY start, label
ORDER BY start, label

-- section: codes
SELECT response_code, sum(call.requests) AS requests
FROM ${flows} AS call
WHERE has({labels:Array(String)}, label)
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
    FROM ${flows} AS call
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

-- What the filters may be set to, within the range.
-- section: workloads
SELECT
    row.source_cluster AS source_cluster,
    coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
    coalesce(row.source_workload, row.source_ip_workload) AS source_workload
FROM ${windows} AS row
WHERE row.hop != 'gateway'
GROUP BY source_cluster, source_namespace, source_workload
ORDER BY source_cluster, source_namespace, source_workload
LIMIT {limit:UInt32}

-- What nobody in the mesh called before the range.
-- section: first_seen
SELECT source_cluster, destination_host, destination_port
FROM ${database}.raw_view_destinations AS row
WHERE destination_host IS NOT NULL
GROUP BY source_cluster, destination_host, destination_port
HAVING min(row.first_seen) >= {since:DateTime('UTC')} AND min(row.first_seen) < {until:DateTime('UTC')}
ORDER BY min(row.first_seen) DESC
LIMIT 100000
