CREATE TABLE {db}.events (
    event_time DateTime64(3, 'UTC'), label LowCardinality(String), upstream_cluster LowCardinality(String),
    source_ip LowCardinality(String), destination_host LowCardinality(String), destination_port UInt16,
    protocol LowCardinality(String), method LowCardinality(String), path String, response_code UInt16,
    response_flags LowCardinality(String), bytes_sent UInt64, bytes_received UInt64, duration_ms UInt64,
    user_agent LowCardinality(String), request_id String, route_name LowCardinality(String),
    upstream_host LowCardinality(String), partition UInt32, offset UInt64
) ENGINE = ReplacingMergeTree ORDER BY (source_ip, destination_host, event_time, partition, offset);
CREATE TABLE {db}.windows (
    window_start DateTime('UTC'), source_ip LowCardinality(String), label LowCardinality(String),
    destination_host LowCardinality(String), destination_port UInt16, protocol LowCardinality(String),
    response_code UInt16, partition UInt32,
    requests UInt64, bytes_sent UInt64, bytes_received UInt64, duration_ms_sum UInt64, duration_ms_max UInt64,
    last_offset UInt64
) ENGINE = ReplacingMergeTree(last_offset)
ORDER BY (window_start, source_ip, label, destination_host, destination_port, protocol, response_code, partition)
