"""`ottla topics`: the topics of this installation."""

import asyncio
from typing import Any

import click

from infra.cli.output import output_option, show
from infra.kafka.address import with_kafka
from infra.kafka.admin import TopicOnBroker, create_topics, list_topics
from infra.settings import load_settings
from schemas.topics import DAY_MS, TOPICS


@click.group("topics")
def command() -> None:
    """Topics: make them, list them."""


@command.command("create")
def create() -> None:
    """Make the topics that are missing; safe to repeat."""
    made = asyncio.run(create_topics(with_kafka(load_settings())))
    click.echo(f"Made {len(made)} of {len(TOPICS)} topics: {', '.join(made)}." if made else f"All {len(TOPICS)} topics are there.")


@command.command("list")
@output_option
def list_(output: str) -> None:
    """List every topic: what it holds, who writes and reads it, and how the broker has it."""
    rows = [_row(topic) for topic in asyncio.run(list_topics(with_kafka(load_settings())))]
    titles = {"topic": "topic", "state": "partitions", "replication": "replicas", "kept": "kept", "producers": "from", "consumers": "to"}
    if output == "table":
        rows = [row | {"producers": ", ".join(row["producers"]), "consumers": ", ".join(row["consumers"])} for row in rows]
    show(output, rows, titles=titles | {"purpose": "holds"})


def _row(found: TopicOnBroker) -> dict[str, Any]:
    topic = found.topic
    state = "missing" if not found.partitions else str(found.partitions)
    if found.partitions and found.partitions != found.partitions_wanted:
        state += f" (should be {found.partitions_wanted})"
    return {
        "topic": found.name,
        "state": state,
        "partitions": found.partitions,
        "replication": found.replication,
        "kept": "newest of a key" if topic.retention_ms is None else f"{topic.retention_ms // DAY_MS} days",
        "key": topic.key,
        "event": topic.event,
        "producers": topic.producers,
        "consumers": topic.consumers,
        "purpose": topic.purpose,
    }
