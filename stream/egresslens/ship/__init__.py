"""Ship access-log files into Kafka: at least once, in order, for the demo and for hosts without a shipper.

`tail` follows files through rotation and truncation, `positions` remembers across restarts what the brokers
have acknowledged, `envelope` wraps a line in what is known of its pod, `delivery` hands it to Kafka, `run` is
the loop around them.
"""
