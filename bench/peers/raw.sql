CREATE TABLE {db}.raw (partition UInt32, offset UInt64, line String) ENGINE = Null;
CREATE MATERIALIZED VIEW {db}.to_events TO {db}.events AS
WITH JSONExtract(line, 'Tuple(start_time String, upstream_cluster String, route_name String, authority String,
        requested_server_name String, downstream_local_address String, downstream_remote_address String,
        protocol String, method String, path String, response_code UInt16, response_flags String,
        bytes_sent UInt64, bytes_received UInt64, duration UInt64, user_agent String, request_id String,
        upstream_host String)') AS r,
    multiIf(r.upstream_cluster = 'PassthroughCluster', 'passthrough',
        r.upstream_cluster = 'BlackHoleCluster' OR r.route_name = 'block_all', 'blackhole',
        startsWith(r.upstream_cluster, 'outbound|'), 'outbound',
        startsWith(r.upstream_cluster, 'inbound|'), 'inbound', 'unknown') AS found,
    splitByChar('|', r.upstream_cluster) AS pieces,
    splitByChar(':', r.downstream_local_address) AS address
SELECT parseDateTime64BestEffort(r.start_time, 3, 'UTC') + toIntervalMillisecond(r.duration) AS event_time,
    found AS label, r.upstream_cluster AS upstream_cluster,
    splitByChar(':', r.downstream_remote_address)[1] AS source_ip,
    multiIf(length(pieces) = 4, pieces[4], r.authority NOT IN ('', '-'), r.authority,
        r.requested_server_name NOT IN ('', '-'), r.requested_server_name, address[1]) AS destination_host,
    toUInt16OrZero(address[2]) AS destination_port, r.protocol AS protocol, r.method AS method,
    cutQueryStringAndFragment(r.path) AS path, r.response_code AS response_code, r.response_flags AS response_flags,
    r.bytes_sent AS bytes_sent, r.bytes_received AS bytes_received, r.duration AS duration_ms,
    r.user_agent AS user_agent, r.request_id AS request_id, r.route_name AS route_name,
    r.upstream_host AS upstream_host, partition, offset
FROM {db}.raw WHERE found IN ('outbound', 'passthrough', 'blackhole');
CREATE TABLE {db}.sums (
    window_start DateTime('UTC'), source_ip LowCardinality(String), label LowCardinality(String),
    destination_host LowCardinality(String), destination_port UInt16, protocol LowCardinality(String),
    response_code UInt16, requests UInt64, bytes_sent UInt64, bytes_received UInt64, duration_ms_sum UInt64
) ENGINE = SummingMergeTree
ORDER BY (window_start, source_ip, label, destination_host, destination_port, protocol, response_code);
CREATE MATERIALIZED VIEW {db}.to_sums TO {db}.sums AS
SELECT toStartOfMinute(event_time) AS window_start, source_ip, label, destination_host, destination_port,
    protocol, response_code, count() AS requests, sum(bytes_sent) AS bytes_sent,
    sum(bytes_received) AS bytes_received, sum(duration_ms) AS duration_ms_sum
FROM {db}.events
GROUP BY window_start, source_ip, label, destination_host, destination_port, protocol, response_code
