-- What became of every message, per Kafka partition: read = with records + filtered + rejected.
SELECT
    topic, partition, last_offset, messages, messages_with_records, messages_filtered, messages_rejected, gaps,
    messages = messages_with_records + messages_filtered + messages_rejected AS adds_up
FROM progress
ORDER BY topic, partition
