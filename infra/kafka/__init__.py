"""Kafka: the producer, the lane-hosting consumer and the topics, all from one table in schemas."""
