"""Kafka: the producer, the lane-hosting consumer and the topics, all from one table in schemas."""

from infra.kafka import corrections, fetch_sessions  # noqa: F401  # before anything here makes a consumer
