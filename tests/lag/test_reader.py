"""infra.lag.reader and infra.kafka.questions on a real broker: where groups stand, to the message and to the second."""

import asyncio
import random
import time
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer

from infra.kafka.admin import create_topics
from infra.kafka.consumer import LaneConsumer
from infra.kafka.questions import Place, Questions, record_times
from infra.kafka.record import Record
from infra.lag.burrow import State
from infra.lag.figures import as_rows
from infra.lag.reader import LagReader
from infra.lag.windows import Source, Windows
from infra.retries import AwayError
from infra.settings import Settings
from schemas.groups import GROUPS
from schemas.topics import DEAD_LETTERS, RAW
from tests.topic_settings import forget_before, set_topic

pytestmark = pytest.mark.servers

LARGE = random.Random(1).randbytes(5 << 20)


async def stamp_by_producers(settings: Settings, topic: str) -> None:
    """Have a topic keep the times that producers say, so that a test need not wait for records to grow old."""
    await set_topic(settings, topic, "message.timestamp.type", "CreateTime")


def write(settings: Settings, topic: str, partition: int, times_ms: Sequence[int], *, value: bytes = b"{}") -> None:
    """Write a record for each time, all in one batch."""
    producer = Producer({"bootstrap.servers": settings.kafka, "linger.ms": 50, "compression.type": "gzip", "message.max.bytes": 6 << 20})
    refused: list[object] = []
    for time_ms in times_ms:
        told = {"timestamp": time_ms, "on_delivery": lambda error, _: refused.append(error) if error else None}
        producer.produce(settings.topic_prefix + topic, value, b"key", partition=partition, **told)
    assert (producer.flush(15), refused) == (0, [])


async def commit(settings: Settings, group: str, offsets: dict[tuple[str, int], int]) -> None:
    """Commit for a group without members."""
    member = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=settings.topic_prefix + group, enable_auto_commit=False)
    await member.start()
    try:
        places = {TopicPartition(settings.topic_prefix + topic, number): offset for (topic, number), offset in offsets.items()}
        member.assign(list(places))
        await member.commit(places)
    finally:
        await member.stop()


async def test_a_stopped_group_s_lag_is_right_to_the_message_and_to_the_second(settings: Settings) -> None:
    """The record at the committed offset counts, not its batch's first or last; large batches do not hide small ones."""
    await create_topics(settings)
    await stamp_by_producers(settings, DEAD_LETTERS.name)
    now_ms = int(time.time() * 1000)
    await asyncio.to_thread(write, settings, DEAD_LETTERS.name, 0, [now_ms - 300_000, now_ms - 61_500, now_ms - 20_000])
    await asyncio.to_thread(write, settings, DEAD_LETTERS.name, 1, [now_ms - 7_000], value=LARGE)
    await asyncio.to_thread(write, settings, DEAD_LETTERS.name, 2, [now_ms - 9_000], value=LARGE)
    await asyncio.to_thread(write, settings, DEAD_LETTERS.name, 3, [now_ms - 90_000])
    await commit(settings, "dead-letters", {(DEAD_LETTERS.name, 0): 1, (DEAD_LETTERS.name, 3): 1})
    reader, windows = LagReader(settings, timeout_s=30), Windows()
    try:
        windows.add(await reader.read())
        after_ms = int(time.time() * 1000)
        row = next(row for row in as_rows(windows.figures(), now_ms=after_ms, partitions=True) if row["group"] == "dead-letters")
    finally:
        await reader.close()
    assert (row["topic"], row["lag_messages"], row["state"], row["owned"]) == ("dead-letters", 4, "OK", 0)
    assert row["lag_seconds"] == pytest.approx((after_ms - now_ms) / 1000 + 61.5, abs=0.002)
    assert row["retention_left_seconds"] == pytest.approx(35 * 86_400 - row["lag_seconds"], abs=0.002)
    ages = [each["lag_seconds"] - (after_ms - now_ms) / 1000 if each["lag_messages"] else 0 for each in row["partitions"][:4]]
    assert ages == pytest.approx([61.5, 7.0, 9.0, 0.0], abs=0.002)
    assert [each["committed"] for each in row["partitions"][:4]] == [1, None, None, 1]


async def test_what_was_deleted_unprocessed_is_lost_and_no_lag(settings: Settings) -> None:
    """The log begins at 2 and the group at 1: one is lost, one is unprocessed; outside the log there is no record to tell a time."""
    await create_topics(settings)
    await asyncio.to_thread(write, settings, RAW.name, 5, [int(time.time() * 1000)] * 3)
    await commit(settings, "streams", {(RAW.name, 5): 1})
    await forget_before(settings, RAW.name, 5, 2)
    reader, questions = LagReader(settings, timeout_s=30), Questions(settings, timeout_s=30)
    place = Place(RAW.named(settings.topic_prefix), 5)
    try:
        seen = (await reader.read())[Source("streams", RAW.name, 5)]
        outside = await questions.ask(lambda client: record_times(client, {place: 9}))
        empty = await questions.ask(lambda client: record_times(client, {place._replace(partition=6): 0}))
    finally:
        await reader.close()
        await questions.close()
    assert (seen.committed, seen.begin, seen.end, seen.lag, seen.lost) == (1, 2, 3, 1, 1)
    assert seen.oldest_ms is not None
    assert (outside, empty) == ({}, {})


async def test_living_members_and_what_is_theirs(settings: Settings) -> None:
    """A member that lives and does not get on has partitions; before it came nobody had; who left lets go."""
    await create_topics(settings)
    stuck = asyncio.Event()

    async def handle(_: Sequence[Record]) -> None:
        await stuck.wait()

    reader, windows = LagReader(settings, timeout_s=30), Windows()
    member = LaneConsumer(settings, group="dead-letters", topics=[DEAD_LETTERS], handle=handle, on_fatal=lambda _: None)
    try:
        before = await reader.read()
        assert {source.topic for source in before} == {topic.name for group in GROUPS.values() for topic in group.topics}
        assert {each.owner for each in before.values()} == {""}
        await member.start()
        await asyncio.wait_for(member.ready.wait(), 60)
        await asyncio.to_thread(write, settings, DEAD_LETTERS.name, 0, [0])
        seen = await reader.read()
        owners = {source.group: each.owner for source, each in seen.items()}
        assert owners == {"streams": "", "sender": "", "history": "", "dead-letters": f"test-{settings.topic_prefix}dead-letters"}
        windows.add(seen)
        (letters,) = [each for each in windows.figures() if each.group == "dead-letters"]
        assert (letters.lag, letters.state) == (1, State.OK)  # a window that is not full says nothing yet
    finally:
        stuck.set()
        await member.stop(1)
        await reader.close()


async def test_a_broker_that_is_away_and_topics_that_are_missing(settings: Settings) -> None:
    """Nobody waits for ever; nothing is there before the topics are, and asking does not make them; then they are seen."""
    away = LagReader(settings.model_copy(update={"kafka": "127.0.0.1:1"}), timeout_s=0.5)
    with pytest.raises(AwayError, match=r"127\.0\.0\.1:1"):
        await away.read()
    await away.close()
    reader = LagReader(settings, timeout_s=30)
    try:
        assert await reader.read() == {}
        await create_topics(settings)
        assert len(await reader.read()) == sum(len(group.topics) for group in GROUPS.values()) * settings.partitions
    finally:
        await reader.close()
