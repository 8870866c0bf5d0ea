-- How long each tier is kept. Applied again whenever a setting changes; parts are dropped whole.
-- raw_destinations, raw_progress and raw_alerts are kept for ever. A changed hour is forgotten with its minutes.

ALTER TABLE ${database}.raw_events${local}${on_cluster}
MODIFY TTL toDateTime(kafka_timestamp, 'UTC') + INTERVAL ${events_ttl_days} DAY;

ALTER TABLE ${database}.raw_windows_1m${local}${on_cluster}
MODIFY TTL window_start + INTERVAL ${windows_1m_ttl_days} DAY;

ALTER TABLE ${database}.raw_changed_hours${local}${on_cluster}
MODIFY TTL window_start + INTERVAL ${windows_1m_ttl_days} DAY;

ALTER TABLE ${database}.raw_windows_1h${local}${on_cluster}
MODIFY TTL window_start + INTERVAL ${windows_1h_ttl_days} DAY;

ALTER TABLE ${database}.raw_windows_1d${local}${on_cluster}
MODIFY TTL window_start + INTERVAL ${windows_1d_ttl_days} DAY;

ALTER TABLE ${database}.raw_dead_letters${local}${on_cluster}
MODIFY TTL toDateTime(kafka_timestamp, 'UTC') + INTERVAL ${dead_letters_ttl_days} DAY;

ALTER TABLE ${database}.raw_rolled${local}${on_cluster}
MODIFY TTL
    window_start + INTERVAL ${windows_1h_ttl_days} DAY DELETE WHERE tier = '1h',
    window_start + INTERVAL ${windows_1d_ttl_days} DAY DELETE WHERE tier = '1d';
