-- Which rules decided what is stored, in the order in which they came into force. A version is one set of rules
-- (`fingerprint`) until another takes over; rules that return get a new version, so that the newest always wins.

CREATE TABLE IF NOT EXISTS ${database}.raw_rules${local}${on_cluster}
(
    version UInt32,
    fingerprint String,
    rules String,
    registered_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ${replicated}MergeTree
ORDER BY (version, registered_at, fingerprint);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_rules${on_cluster} AS ${database}.raw_rules_local
ENGINE = Distributed('${cluster}', '${database}', raw_rules_local, cityHash64(fingerprint));
