-- What has been applied. `number` is a migration's; views.sql and retention.sql are recorded as 0 with the
-- checksum of their rendered text, so that they are applied again whenever that changes.

CREATE DATABASE IF NOT EXISTS ${database}${on_cluster};

CREATE TABLE IF NOT EXISTS ${database}.raw_migrations${local}${on_cluster}
(
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ${replicated}ReplacingMergeTree(applied_at)
ORDER BY (number, name);

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.raw_migrations${on_cluster} AS ${database}.raw_migrations_local
ENGINE = Distributed('${cluster}', '${database}', raw_migrations_local, number);
