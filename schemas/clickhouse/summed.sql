-- What the reports read over a range: a tier's rows, summed before they are judged. A destination is judged once for
-- each set of addresses that it was seen at, instead of once per window: the same rows in the end, far fewer on the
-- way. Where no workload is known, windows stay apart: the address may have been another pod's in each.
-- section: summed
(
    WITH ${judged_with}
    SELECT ${judged_columns}
    FROM
    (
        SELECT
            source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port,
            protocol, hop, response_code,
            ifNull(destination_host_source = 'registry', false) AS registered,
            arraySort(part.destination_ips) AS destination_ips,
            destination_ips AS ips,
            if(source_workload IS NULL, part.last_event, NULL) AS apart,
            sum(part.requests) AS requests,
            sum(part.mismatches) AS mismatches,
            sum(part.bytes_sent) AS bytes_sent,
            sum(part.bytes_received) AS bytes_received,
            max(part.duration_ms_max) AS duration_ms_max,
            sumForEach(part.duration_buckets) AS duration_buckets,
            min(part.first_event) AS first_event,
            max(part.last_event) AS last_event,
            max(part.last_event) AS seen_at
        FROM ${rows} AS part
        WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')}
        GROUP BY
            source_cluster, source_namespace, source_workload, source_ip, label, destination_host, destination_port,
            protocol, hop, response_code, registered, destination_ips, apart
    ) AS row
    ${judged_joins}
)
