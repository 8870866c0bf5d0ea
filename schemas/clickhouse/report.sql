-- Pieces of reports.sql, one per section, and the statements of `egresslens report`: each report is one text. A view
-- answers per hour (`window_start`), the command over its range, from the tier and with the filters it chose.

-- What was called, once per call: a gateway's records are left out, since the proxy at the source logged the same
-- call, and a waypoint's where the source's own sidecar logged calls of the same destination. The workload is that
-- of the record, else that of the pod behind its address. A response of 400 or more is an error, and so is an HTTP
-- request without any; whether a TCP connection failed, windows do not tell.
-- section: calls
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
            destination_scope, destination_scope_reason,
            destination_region, destination_region_confidence, destination_region_reason,
            destination_kind, destination_kind_confidence, destination_kind_reason,
            service_entry, service_entry_reason,
            sum(row.requests) AS requests,
            sumIf(
                row.requests,
                row.response_code >= 400 OR (row.response_code = 0 AND startsWith(ifNull(row.protocol, ''), 'HTTP'))
            ) AS errors,
            sum(row.mismatches) AS mismatches,
            sum(row.bytes_received) AS bytes_received,
            sum(row.bytes_sent) AS bytes_sent,
            max(row.duration_ms_max) AS slowest,
            sumForEach(row.duration_buckets) AS buckets,
            min(row.first_event) AS first_seen,
            max(row.last_event) AS last_seen,
            max(hop = 'sidecar') OVER (
                PARTITION BY ${window}source_cluster, source_namespace, source_workload, source_ip,
                destination_host, destination_port
            ) AS has_sidecar
        FROM ${windows} AS row
        WHERE row.hop != 'gateway'${narrow}
        GROUP BY
            ${window}source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
            destination_port, hop, destination_scope, destination_scope_reason,
            destination_region, destination_region_confidence, destination_region_reason,
            destination_kind, destination_kind_confidence, destination_kind_reason,
            service_entry, service_entry_reason
    )
    WHERE hop = 'sidecar' OR has_sidecar = 0
)

-- Percentiles by linear interpolation inside a bucket, as Prometheus does; no more than the slowest.
-- section: latency
arrayMap(
    (share, at) -> round(
        if(at = 1, 0, bounds[at - 1])
        + (if(at > length(bounds), toFloat64(slowest), least(bounds[at], toFloat64(slowest))) - if(at = 1, 0, bounds[at - 1]))
        * (share * filled[-1] - if(at = 1, 0, filled[at - 1])) / buckets[at],
        1
    ),
    [0.5, 0.95],
    arrayMap(share -> arrayFirstIndex(sum -> sum >= share * filled[-1], filled), [0.5, 0.95])
)

-- section: external
WITH ${bounds} AS bounds, arrayCumSum(buckets) AS filled, ${latency} AS latency
SELECT
    ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
    label, destination_scope, service_entry, requests, errors, bytes_received, bytes_sent,
    if(filled[-1] > 0, latency[1], NULL) AS p50_ms, if(filled[-1] > 0, latency[2], NULL) AS p95_ms,
    first_seen, last_seen
FROM
(
    SELECT
        ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host,
        destination_port, label,
        min(call.destination_scope) AS destination_scope,
        any(call.service_entry) AS service_entry,
        sum(call.requests) AS requests, sum(call.errors) AS errors,
        sum(call.bytes_received) AS bytes_received, sum(call.bytes_sent) AS bytes_sent,
        max(call.slowest) AS slowest, sumForEach(call.buckets) AS buckets,
        min(call.first_seen) AS first_seen, max(call.last_seen) AS last_seen
    FROM ${calls} AS call
    WHERE label != 'blackhole' AND call.destination_scope IN ('external', 'unknown')
    GROUP BY
        ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host,
        destination_port, label
)

-- What the workload sent out is written (bytes_received, as Envoy sees it), what came back is read.
-- section: databases
SELECT
    ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
    label, destination_kind, destination_kind_reason, destination_kind_confidence,
    min(call.destination_scope) AS destination_scope,
    any(call.service_entry) AS service_entry,
    sum(call.requests) AS requests, sum(call.errors) AS errors,
    sum(call.bytes_received) AS bytes_written, sum(call.bytes_sent) AS bytes_read,
    min(call.first_seen) AS first_seen, max(call.last_seen) AS last_seen
FROM ${calls} AS call
WHERE label != 'blackhole' AND destination_kind IS NOT NULL
GROUP BY
    ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
    label, destination_kind, destination_kind_reason, destination_kind_confidence

-- Countries (two letters) and clouds' regions cannot be compared: unknown, as in judge.home.where.
-- Residency is judge.residency's rule, which tests compare.
-- section: regions
WITH
    arrayFirst(
        one -> destination_host = one OR (startsWith(one, '*.') AND endsWith(ifNull(destination_host, ''), substring(one, 2))),
        rule.hosts
    ) AS allowed_host,
    arrayExists(one -> lower(ifNull(destination_region, '')) LIKE one, rule.region_patterns) AS in_allowed
SELECT
    ${window}source_cluster, source_namespace, source_workload, source_ip, home.regions AS home_regions,
    destination_host, destination_port, destination_region,
    multiIf(
        empty(home.regions) OR destination_region IS NULL, 'unknown',
        has(home.regions, assumeNotNull(destination_region)), 'in region',
        arrayExists(
            one -> (length(one) = 2) = (length(assumeNotNull(destination_region)) = 2), home.regions
        ), 'out of region',
        'unknown'
    ) AS place,
    multiIf(
        place = 'unknown', 'low',
        home.confidence = 'low' OR destination_region_confidence = 'low', 'low',
        home.confidence = 'medium' OR destination_region_confidence = 'medium', 'medium',
        'high'
    ) AS confidence,
    multiIf(
        empty(home.regions), 'where the workload runs is not known',
        destination_region IS NULL, ifNull(destination_region_reason, 'nothing tells the region'),
        concat(ifNull(destination_region_reason, ''), '; home: ', ifNull(home.reason, ''))
    ) AS reason,
    sum(call.requests) AS requests,
    sum(call.bytes_received) AS bytes_received, sum(call.bytes_sent) AS bytes_sent,
    min(call.first_seen) AS first_seen, max(call.last_seen) AS last_seen,
    rule.residency_policy AS residency_policy,
    multiIf(
        residency_policy IS NULL, NULL,
        allowed_host != '', 'allowed',
        destination_region IS NULL, rule.unknown_region,
        in_allowed, 'allowed',
        'violation'
    ) AS residency,
    multiIf(
        residency_policy IS NULL, NULL,
        allowed_host != '', concat('host ', allowed_host, ' is allowed wherever it is'),
        destination_region IS NULL,
        if(
            residency = 'violation',
            concat('unknown region, and only ', arrayStringConcat(rule.regions, ', '), ' is allowed'),
            'unknown region'
        ),
        in_allowed, concat(assumeNotNull(destination_region), ' is allowed'),
        concat(assumeNotNull(destination_region), ' is not among ', arrayStringConcat(rule.regions, ', '))
    ) AS residency_reason
FROM ${calls} AS call
LEFT JOIN
(
    SELECT
        ifNull(source_cluster, '') AS cluster, ifNull(source_namespace, '') AS namespace,
        ifNull(source_workload, '') AS workload, regions, confidence, reason
    FROM ${database}.homes
) AS home
ON home.cluster = ifNull(call.source_cluster, '') AND home.namespace = ifNull(call.source_namespace, '')
    AND home.workload = ifNull(call.source_workload, '')
LEFT JOIN
(
    SELECT
        ifNull(source_cluster, '') AS cluster, ifNull(source_namespace, '') AS namespace, residency_policy, regions,
        region_patterns, hosts, unknown_region
    FROM ${database}.residency
) AS rule
ON rule.cluster = ifNull(call.source_cluster, '') AND rule.namespace = ifNull(call.source_namespace, '')
WHERE label != 'blackhole' AND destination_scope != 'mesh'
GROUP BY
    ${window}source_cluster, source_namespace, source_workload, source_ip, home_regions, destination_host,
    destination_port, destination_region, place, confidence, reason, residency_policy, residency, residency_reason

-- Counts from windows; what proved it from the single records, as long as they are kept.
-- section: blocked
SELECT
    ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
    sum(part.requests) AS attempts,
    arraySort(groupUniqArrayArray(part.proved_by)) AS proved_by,
    any(part.service_entry) AS service_entry,
    min(part.first_seen) AS first_seen, max(part.last_seen) AS last_seen
FROM
(
    SELECT
        ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host,
        destination_port, service_entry, requests, CAST([], 'Array(String)') AS proved_by, first_seen, last_seen
    FROM ${calls}
    WHERE label = 'blackhole'
    UNION ALL
    SELECT
        ${hour}row.source_cluster AS source_cluster,
        coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
        coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
        if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL) AS source_ip,
        destination_host, destination_port,
        any(row.service_entry) AS service_entry,
        0 AS requests,
        groupUniqArray(16)(
            multiIf(
                label_evidence = 'cluster', concat('cluster ', ifNull(upstream_cluster, '')),
                label_evidence = 'route', concat('route ', ifNull(route_name, '')),
                concat('flags ', arrayStringConcat(response_flags, ','))
            )
        ) AS proved_by,
        min(event_time) AS first_seen, max(event_time) AS last_seen
    FROM ${events} AS row
    WHERE label = 'blackhole' AND hop != 'gateway'${narrow_events}
    GROUP BY
        ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port
) AS part
GROUP BY ${window}source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port
HAVING attempts > 0

-- What nobody called before is new to the mesh, the rest to the workload only. A gateway is no caller.
-- section: new
SELECT *
FROM
(
    SELECT
        source_cluster,
        coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
        coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
        if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL) AS source_ip,
        destination_host, destination_port,
        arraySort(groupUniqArrayArray(row.labels)) AS labels,
        min(row.destination_scope) AS destination_scope,
        any(row.destination_kind) AS destination_kind,
        any(row.service_entry) AS service_entry,
        sum(row.requests) AS requests,
        min(row.first_seen) AS first_seen,
        max(row.last_seen) AS last_seen,
        if(
            first_seen = min(first_seen) OVER (PARTITION BY source_cluster, destination_host, destination_port),
            'mesh', 'workload'
        ) AS new_to
    FROM ${database}.destinations AS row
    WHERE
    (
        ifNull(row.source_cluster, ''), ifNull(row.source_namespace, ''), ifNull(row.source_workload, ''),
        ifNull(row.source_ip, ''), ifNull(row.destination_host, ''), ifNull(row.destination_port, 0)
    ) IN
    (
        SELECT DISTINCT
            ifNull(source_cluster, ''), ifNull(source_namespace, ''), ifNull(source_workload, ''),
            ifNull(source_ip, ''), ifNull(destination_host, ''), ifNull(destination_port, 0)
        FROM ${days}
        WHERE hop != 'gateway'
    )
    GROUP BY source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port
)
WHERE destination_scope != 'mesh'${narrow_new}

-- Passthrough happens under ALLOW_ANY alone, a blocked attempt under REGISTRY_ONLY alone; calls of registered hosts
-- happen under both and prove neither.
-- section: modes
SELECT
    ${window}source_cluster, source_namespace,
    multiIf(
        passthrough = 0 AND blocked = 0, 'unknown',
        blocked = 0, 'ALLOW_ANY',
        passthrough = 0, 'REGISTRY_ONLY',
        last_passthrough < first_blocked, 'REGISTRY_ONLY',
        last_blocked < first_passthrough, 'ALLOW_ANY',
        'both'
    ) AS mode,
    multiIf(
        passthrough = 0 AND blocked = 0, 'only registered hosts were called, which both policies allow',
        mode = 'both', 'both at once: workloads of the namespace differ, or the policy went back and forth',
        passthrough > 0 AND blocked > 0, concat('changed between ',
            formatDateTime(if(mode = 'ALLOW_ANY', last_blocked, last_passthrough), '%F %T'), ' and ',
            formatDateTime(if(mode = 'ALLOW_ANY', first_passthrough, first_blocked), '%F %T')),
        passthrough > 0, 'unregistered hosts were let out',
        'unregistered hosts were blocked'
    ) AS evidence,
    sumIf(call.requests, label = 'passthrough') AS passthrough,
    sumIf(call.requests, label = 'blackhole') AS blocked,
    sumIf(call.requests, label = 'outbound') AS registered,
    arraySort(groupUniqArrayIf(5)(ifNull(destination_host, ''), label = 'passthrough')) AS let_out,
    arraySort(groupUniqArrayIf(5)(ifNull(destination_host, ''), label = 'blackhole')) AS turned_away,
    minOrNullIf(call.first_seen, label = 'passthrough') AS first_passthrough,
    maxOrNullIf(call.last_seen, label = 'passthrough') AS last_passthrough,
    minOrNullIf(call.first_seen, label = 'blackhole') AS first_blocked,
    maxOrNullIf(call.last_seen, label = 'blackhole') AS last_blocked
FROM ${calls} AS call
GROUP BY ${window}source_cluster, source_namespace

-- What the evidence cannot see. Envoy samples by the request id (its first 8 hexadecimal digits modulo the
-- denominator, 100 by default): where logs are sampled, only low remainders are found.
-- section: coverage
SELECT
    source_cluster, source_namespace, source_workload, source_ip,
    sum(part.pods) AS pods, sum(part.with_sidecar) AS with_sidecar, sum(part.records) AS records,
    max(part.last_record) AS last_record,
    arraySort(groupUniqArrayArray(part.formats)) AS formats,
    arrayFilter(
        text -> text != '',
        [
            if(pods > 0 AND with_sidecar = 0, 'no sidecar: what it calls is not seen', ''),
            if(with_sidecar > 0 AND with_sidecar < pods, 'some of its pods have no sidecar', ''),
            if(with_sidecar > 0 AND records = 0, 'no records: it sends no logs, or it calls nothing', ''),
            if(records >= 100 AND sum(part.fine) = 0, 'only failures are logged: a filter by status?', ''),
            if(
                records >= 100 AND min(part.fastest) >= 100,
                concat('nothing faster than ', toString(min(part.fastest)), ' ms is logged: a filter by duration?'), ''
            ),
            if(
                sum(part.ids) >= 200 AND max(part.remainder) < 90,
                concat('looks sampled: about ', toString(max(part.remainder) + 1), ' % of its requests'), ''
            ),
            if(
                records > 0 AND empty(lacking), '',
                if(records = 0, '', concat('no ', arrayStringConcat(lacking, ', '), ' in its records'))
            )
        ]
    ) AS findings,
    arraySort(arrayReduce('groupUniqArray', arrayFlatten(groupArray(part.lacks)))) AS lacking
FROM
(
    SELECT
        source_cluster, namespace AS source_namespace, workload AS source_workload,
        CAST(NULL, 'Nullable(String)') AS source_ip,
        count() AS pods, countIf(has_proxy) AS with_sidecar, 0 AS records,
        CAST(NULL, 'Nullable(DateTime64(3, \'UTC\'))') AS last_record, CAST([], 'Array(String)') AS formats,
        0 AS fine, CAST(NULL, 'Nullable(Int64)') AS fastest, 0 AS ids, 0 AS remainder,
        CAST([], 'Array(String)') AS lacks
    FROM (SELECT DISTINCT source_cluster, namespace, workload, pod, has_proxy FROM ${pods})
    GROUP BY source_cluster, namespace, workload
    UNION ALL
    SELECT
        row.source_cluster AS source_cluster,
        coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
        coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
        if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL) AS source_ip,
        0 AS pods, 0 AS with_sidecar, count() AS records, max(event_time) AS last_record,
        groupUniqArray(16)(toString(format)) AS formats,
        countIf(ifNull(response_code, 0) < 400 AND NOT (ifNull(response_code, 0) = 0 AND notEmpty(response_flags)))
            AS fine,
        min(duration_ms) AS fastest,
        countIf(match(ifNull(request_id, ''), '^[0-9a-f]{8}')) AS ids,
        max(
            if(
                match(ifNull(request_id, ''), '^[0-9a-f]{8}'),
                reinterpretAsUInt32(reverse(unhex(substring(ifNull(request_id, ''), 1, 8)))) % 100, 0
            )
        ) AS remainder,
        arrayFilter(
            name -> name != '',
            [
                if(count(upstream_cluster) = 0, 'upstream_cluster (labels)', ''),
                if(count(start_time) = 0, 'start_time (times are those of Kafka)', ''),
                if(count(duration_ms) = 0, 'duration (latency)', ''),
                if(count(bytes_received) = 0, 'bytes_received (writes)', ''),
                if(count(bytes_sent) = 0, 'bytes_sent (reads)', ''),
                if(count(response_code) = 0 AND count(protocol) > 0, 'response_code (errors)', ''),
                if(count(authority) = 0 AND count(protocol) > 0, 'authority (names of hosts)', ''),
                if(count(request_id) = 0 AND count(protocol) > 0, 'request_id', '')
            ]
        ) AS lacks
    FROM ${recent} AS row
    WHERE row.hop != 'gateway'${narrow_events}
    GROUP BY source_cluster, source_namespace, source_workload, source_ip
) AS part
WHERE 1${narrow_coverage}
GROUP BY source_cluster, source_namespace, source_workload, source_ip
