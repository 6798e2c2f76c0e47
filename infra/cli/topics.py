"""`ottla topics`: the topics of this installation."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import click

from infra.cli.output import output_option, show
from infra.cli.tail import topics_named
from infra.clock import SystemClock
from infra.decoded import readable
from infra.hot_keys import HotKeys
from infra.kafka.address import with_kafka
from infra.kafka.admin import TopicOnBroker, create_topics, list_topics
from infra.kafka.browser import Place, browser
from infra.kafka.selection import Selection, Start, read_start
from infra.settings import Settings, load_settings
from schemas.topics import DAY_MS, TOPICS, Topic


@click.group("topics")
def command() -> None:
    """Topics: make them, list them, see which conversations are loudest in them."""


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


@command.command("hot")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@click.option("--from", "begin", metavar="PLACE", default="15m", show_default=True, help="since when, or -10000: of the last so many")
@click.option("-n", "count", type=click.IntRange(1, 1_000), default=3, show_default=True, help="so many of each partition")
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="NUMBER", help="only this one")
@output_option
def hot(*, names: tuple[str, ...], begin: str, count: int, partition: int | None, output: str) -> None:
    """Show which conversations make the most of each partition of each TOPIC, with their share of its records.

    The records are read and counted now; nothing is committed. A count with a plus is the least it can be.
    """
    settings = load_settings()
    topics = topics_named(names, prefix=settings.topic_prefix)
    start = read_start(begin, now_ms=SystemClock().now_ms())
    # What the client library says of a broker that is away, one of our sentences says.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    rows = hot_rows(asyncio.run(_counted(with_kafka(settings), topics, start, partition)), count=count)
    if not rows and output == "table":
        click.echo(f"Nothing was written since {begin}: --from beginning counts all that is kept.")
        return
    titles = {"topic": "topic", "partition": "partition", "key": "conversation", "records": "records", "share": "share", "bytes": "bytes"}
    if output == "table":
        rows = [row | {"records": f"{row['records']}{'+' * bool(row['missed'])}", "share": f"{row['share']:.0%}"} for row in rows]
    show(output, rows, titles=titles)


async def _counted(settings: Settings, topics: tuple[Topic, ...], start: Start, partition: int | None) -> dict[Place, HotKeys]:
    counted: dict[Place, HotKeys] = {}
    selection = Selection(topics=topics, partition=partition)
    async with browser(settings, selection) as reader, aclosing(reader.read(await reader.places(start))) as records:
        async for record in records:
            hot_keys = counted.setdefault((record.topic, record.partition), HotKeys())
            hot_keys.add(record.key, len(record.key) + len(record.value))
    return counted


def hot_rows(counted: Mapping[Place, HotKeys], *, count: int) -> list[dict[str, Any]]:
    """Return a row for each of the loudest keys of each partition: at least so many records (`missed`: so many more at most)."""
    return [
        {
            "topic": topic,
            "partition": partition,
            "key": readable(each.key),
            "records": each.records,
            "missed": each.missed,
            "share": round(each.records / hot_keys.records, 3),
            "bytes": each.bytes,
        }
        for (topic, partition), hot_keys in sorted(counted.items(), key=lambda entry: (_RANK[entry[0][0]], entry[0][1]))
        for each in hot_keys.top(count)
    ]


_RANK = {topic.name: number for number, topic in enumerate(TOPICS)}


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
        "kept": "newest of a key" if (kept_ms := topic.kept_ms(found.raw_days)) is None else f"{kept_ms // DAY_MS} days",
        "key": topic.key,
        "event": topic.event,
        "producers": topic.producers,
        "consumers": topic.consumers,
        "purpose": topic.purpose,
    }
