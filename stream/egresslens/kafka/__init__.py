"""Everything that talks to Kafka: the embedded broker, topics, the batch transport, the producer."""
