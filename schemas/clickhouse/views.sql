-- The views of facts, and three that say how far each hour, day and month is rolled up. Applied again whenever
-- this text or a setting in it changes. judged.sql publishes raw_view_… with the judgements beside them.
--
-- A window is stale while something in it has changed since it was rolled up (or it never was): the views then
-- read the tier below. Each view reads the stale windows once, into one value, and uses it for both sides of its
-- union: a window is counted by exactly one side, whatever is rolled up meanwhile. A roll-up is used ten
-- seconds after it was recorded (`settled`), so that no query can have begun before its rows were there.
-- Where the tier below may have lost rows to its TTL (not `kept`), what was rolled up is the truth.

-- Hours: the newest version of their minutes, and up to which they are rolled up.
CREATE OR REPLACE VIEW ${database}.raw_hours${on_cluster} AS
SELECT
    stream_epoch, topic, partition, window_start,
    max(row.changed) AS changed,
    max(row.rolled) AS rolled,
    max(row.settled) AS settled,
    window_start >= now() - INTERVAL ${windows_1m_ttl_days} DAY AS kept
FROM
(
    SELECT
        stream_epoch, topic, partition, part.window_start AS window_start,
        part.version AS changed, 0 AS rolled, 0 AS settled
    FROM ${database}.raw_changed_hours AS part
    UNION ALL
    SELECT
        stream_epoch, topic, partition, window_start,
        0 AS changed, version AS rolled, if(rolled_at <= now() - INTERVAL 10 SECOND, version, 0) AS settled
    FROM ${database}.raw_rolled
    WHERE tier = '1h'
) AS row
GROUP BY stream_epoch, topic, partition, window_start;

-- Days, from hours.
CREATE OR REPLACE VIEW ${database}.raw_days${on_cluster} AS
SELECT
    stream_epoch, topic, partition, window_start,
    max(row.changed) AS changed,
    max(row.rolled) AS rolled,
    max(row.settled) AS settled,
    window_start >= now() - INTERVAL ${windows_1h_ttl_days} DAY AS kept
FROM
(
    SELECT
        stream_epoch, topic, partition, toStartOfDay(part.window_start) AS window_start,
        part.version AS changed, 0 AS rolled, 0 AS settled
    FROM ${database}.raw_changed_hours AS part
    UNION ALL
    SELECT
        stream_epoch, topic, partition, toStartOfDay(part.window_start) AS window_start,
        part.version AS changed, 0 AS rolled, 0 AS settled
    FROM ${database}.raw_rolled AS part
    WHERE tier = '1h'
    UNION ALL
    SELECT
        stream_epoch, topic, partition, window_start,
        0 AS changed, version AS rolled, if(rolled_at <= now() - INTERVAL 10 SECOND, version, 0) AS settled
    FROM ${database}.raw_rolled
    WHERE tier = '1d'
) AS row
GROUP BY stream_epoch, topic, partition, window_start;

-- Months of destinations, from days.
CREATE OR REPLACE VIEW ${database}.raw_months${on_cluster} AS
SELECT
    stream_epoch, topic, partition, window_start,
    max(row.changed) AS changed,
    max(row.rolled) AS rolled,
    max(row.settled) AS settled,
    window_start >= now() - INTERVAL ${windows_1d_ttl_days} DAY AS kept
FROM
(
    SELECT
        stream_epoch, topic, partition, toDateTime(toStartOfMonth(part.window_start), 'UTC') AS window_start,
        part.version AS changed, 0 AS rolled, 0 AS settled
    FROM ${database}.raw_changed_hours AS part
    UNION ALL
    SELECT
        stream_epoch, topic, partition, toDateTime(toStartOfMonth(part.window_start), 'UTC') AS window_start,
        part.version AS changed, 0 AS rolled, 0 AS settled
    FROM ${database}.raw_rolled AS part
    WHERE tier IN ('1h', '1d')
    UNION ALL
    SELECT
        stream_epoch, topic, partition, window_start,
        0 AS changed, version AS rolled, if(rolled_at <= now() - INTERVAL 10 SECOND, version, 0) AS settled
    FROM ${database}.raw_rolled
    WHERE tier = '1M'
) AS row
GROUP BY stream_epoch, topic, partition, window_start;

CREATE OR REPLACE VIEW ${database}.raw_view_events${on_cluster} AS
SELECT
    event_time, start_time, duration_ms, label, label_evidence, confidence, upstream_cluster, cluster_port,
    cluster_subset, source_cluster, source_namespace, source_workload, source_pod, source_ip, source_region,
    source_zone, destination_host, destination_host_source, destination_port, destination_ip, mismatch, hop,
    protocol, method, path, response_code, response_flags, response_code_details,
    connection_termination_details, upstream_transport_failure_reason, bytes_sent, bytes_received,
    upstream_service_time, x_forwarded_for, user_agent, request_id, route_name, requested_server_name,
    authority, upstream_host, upstream_local_address, downstream_local_address, downstream_remote_address,
    format, damage, rules_version, stream_epoch, topic, partition, offset, seq, kafka_timestamp
FROM ${database}.raw_events FINAL;

-- Rows of windows, per Kafka partition: what the windows' views sum up, and the console, which sums further anyway.
CREATE OR REPLACE VIEW ${database}.raw_rows_1m${on_cluster} AS
SELECT
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code,
    requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
    duration_buckets, destination_ips, first_event, last_event
FROM ${database}.raw_windows_1m AS part FINAL
WHERE part.requests > 0;

CREATE OR REPLACE VIEW ${database}.raw_view_windows_1m${on_cluster} AS
SELECT
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code,
    sum(row.requests) AS requests,
    sum(row.mismatches) AS mismatches,
    sum(row.bytes_sent) AS bytes_sent,
    sum(row.bytes_received) AS bytes_received,
    sum(row.duration_ms_sum) AS duration_ms_sum,
    max(row.duration_ms_max) AS duration_ms_max,
    sumForEach(row.duration_buckets) AS duration_buckets,
    arraySlice(arraySort(groupUniqArrayArray(row.destination_ips)), 1, 16) AS destination_ips,
    min(row.first_event) AS first_event,
    max(row.last_event) AS last_event
FROM ${database}.raw_rows_1m AS row
GROUP BY
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code;

CREATE OR REPLACE VIEW ${database}.raw_rows_1h${on_cluster} AS
WITH
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_hours
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_hours
SELECT *
FROM
(
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
        destination_host_source, destination_port, protocol, hop, response_code,
        requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
        duration_buckets, destination_ips, first_event, last_event
    FROM ${database}.raw_windows_1h AS part FINAL
    WHERE part.requests > 0
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_hours))
    UNION ALL
    SELECT
        toStartOfHour(part.window_start) AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
        destination_host_source, destination_port, protocol, hop, response_code,
        requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
        duration_buckets, destination_ips, first_event, last_event
    FROM ${database}.raw_windows_1m AS part FINAL
    WHERE part.requests > 0
        AND (toStartOfHour(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_hours))
);

CREATE OR REPLACE VIEW ${database}.raw_view_windows_1h${on_cluster} AS
SELECT
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code,
    sum(row.requests) AS requests,
    sum(row.mismatches) AS mismatches,
    sum(row.bytes_sent) AS bytes_sent,
    sum(row.bytes_received) AS bytes_received,
    sum(row.duration_ms_sum) AS duration_ms_sum,
    max(row.duration_ms_max) AS duration_ms_max,
    sumForEach(row.duration_buckets) AS duration_buckets,
    arraySlice(arraySort(groupUniqArrayArray(row.destination_ips)), 1, 16) AS destination_ips,
    min(row.first_event) AS first_event,
    max(row.last_event) AS last_event
FROM ${database}.raw_rows_1h AS row
GROUP BY
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code;

CREATE OR REPLACE VIEW ${database}.raw_rows_1d${on_cluster} AS
WITH
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_hours
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_hours,
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_days
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_days
SELECT *
FROM
(
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
        destination_host_source, destination_port, protocol, hop, response_code,
        requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
        duration_buckets, destination_ips, first_event, last_event
    FROM ${database}.raw_windows_1d AS part FINAL
    WHERE part.requests > 0
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_days))
    UNION ALL
    SELECT
        toStartOfDay(part.window_start) AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
        destination_host_source, destination_port, protocol, hop, response_code,
        requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
        duration_buckets, destination_ips, first_event, last_event
    FROM ${database}.raw_windows_1h AS part FINAL
    WHERE part.requests > 0
        AND (toStartOfDay(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_days))
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_hours))
    UNION ALL
    SELECT
        toStartOfDay(part.window_start) AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
        destination_host_source, destination_port, protocol, hop, response_code,
        requests, mismatches, bytes_sent, bytes_received, duration_ms_sum, duration_ms_max,
        duration_buckets, destination_ips, first_event, last_event
    FROM ${database}.raw_windows_1m AS part FINAL
    WHERE part.requests > 0
        AND (toStartOfDay(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_days))
        AND (toStartOfHour(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_hours))
);

CREATE OR REPLACE VIEW ${database}.raw_view_windows_1d${on_cluster} AS
SELECT
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code,
    sum(row.requests) AS requests,
    sum(row.mismatches) AS mismatches,
    sum(row.bytes_sent) AS bytes_sent,
    sum(row.bytes_received) AS bytes_received,
    sum(row.duration_ms_sum) AS duration_ms_sum,
    max(row.duration_ms_max) AS duration_ms_max,
    sumForEach(row.duration_buckets) AS duration_buckets,
    arraySlice(arraySort(groupUniqArrayArray(row.destination_ips)), 1, 16) AS destination_ips,
    min(row.first_event) AS first_event,
    max(row.last_event) AS last_event
FROM ${database}.raw_rows_1d AS row
GROUP BY
    window_start,
    source_cluster, source_namespace, source_workload, source_ip, label, destination_host,
    destination_host_source, destination_port, protocol, hop, response_code;

-- Rows of destinations, per Kafka partition and month, or whatever is not rolled up into a month yet.
CREATE OR REPLACE VIEW ${database}.raw_rows_destinations${on_cluster} AS
WITH
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_hours
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_hours,
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_days
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_days,
    (
        SELECT groupArray((window_start, stream_epoch, topic, partition))
        FROM ${database}.raw_months
        WHERE changed > settled AND (kept OR settled = 0)
    ) AS stale_months
SELECT *
FROM
(
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
        label, requests,
        part.first_seen AS first_seen, part.last_seen AS last_seen
    FROM ${database}.raw_destinations AS part FINAL
    WHERE part.requests > 0
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_months))
    UNION ALL
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
        label, requests,
        first_event AS first_seen, last_event AS last_seen
    FROM ${database}.raw_windows_1d AS part FINAL
    WHERE part.requests > 0
        AND (toDateTime(toStartOfMonth(part.window_start), 'UTC'), stream_epoch, topic, partition)
        IN (SELECT arrayJoin(stale_months))
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_days))
    UNION ALL
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
        label, requests,
        first_event AS first_seen, last_event AS last_seen
    FROM ${database}.raw_windows_1h AS part FINAL
    WHERE part.requests > 0
        AND (toDateTime(toStartOfMonth(part.window_start), 'UTC'), stream_epoch, topic, partition)
        IN (SELECT arrayJoin(stale_months))
        AND (toStartOfDay(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_days))
        AND (part.window_start, stream_epoch, topic, partition) NOT IN (SELECT arrayJoin(stale_hours))
    UNION ALL
    SELECT
        part.window_start AS window_start,
        source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
        label, requests,
        first_event AS first_seen, last_event AS last_seen
    FROM ${database}.raw_windows_1m AS part FINAL
    WHERE part.requests > 0
        AND (toDateTime(toStartOfMonth(part.window_start), 'UTC'), stream_epoch, topic, partition)
        IN (SELECT arrayJoin(stale_months))
        AND (toStartOfDay(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_days))
        AND (toStartOfHour(part.window_start), stream_epoch, topic, partition) IN (SELECT arrayJoin(stale_hours))
);

CREATE OR REPLACE VIEW ${database}.raw_view_destinations${on_cluster} AS
SELECT
    source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port,
    arraySort(groupUniqArray(toString(row.label))) AS labels,
    sum(row.requests) AS requests,
    min(row.first_seen) AS first_seen,
    max(row.last_seen) AS last_seen
FROM ${database}.raw_rows_destinations AS row
GROUP BY
    source_cluster, source_namespace, source_workload, source_ip, destination_host, destination_port;

CREATE OR REPLACE VIEW ${database}.dead_letters${on_cluster} AS
SELECT
    kafka_timestamp, reason, field, raw, raw_size, whole, rules_version, stream_epoch, topic, partition, offset,
    seq
FROM ${database}.raw_dead_letters FINAL;

CREATE OR REPLACE VIEW ${database}.progress${on_cluster} AS
SELECT
    stream_epoch, topic, partition, first_offset, last_offset, messages, messages_with_records,
    messages_filtered, messages_rejected, records, events, filtered, rejected, gaps, past_retention,
    rules_version, updated_at
FROM ${database}.raw_progress FINAL;

CREATE OR REPLACE VIEW ${database}.alerts${on_cluster} AS
SELECT
    id, rule, severity, state, source_cluster, source_namespace, source_workload, source_ip, destination_host,
    destination_port, first_seen, last_seen, count, details, updated_at
FROM ${database}.raw_alerts FINAL;
