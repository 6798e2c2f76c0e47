"""Reads whole topics in tests, and waits for records in them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.settings import Settings
from schemas.codec import decode
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent


def decided(found: Sequence[Any]) -> list[InboundEvent]:
    """Return the items among records of [inbound], without the words about keys."""
    either: Any = InboundEvent | LinkedEvent
    return [event for record in found if isinstance(event := decode(record.value, either), InboundEvent)]


async def records(settings: Settings, topic: str) -> list[Any]:
    """Return every record of a message topic that is in the log now."""
    reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    await reader.start()
    try:
        partitions = [TopicPartition(settings.topic_prefix + topic, number) for number in range(settings.partitions)]
        reader.assign(partitions)
        await reader.seek_to_beginning(*partitions)
        begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        found: list[Any] = []
        while len(found) < sum(ends.values()) - sum(begins.values()):
            for batch in (await reader.getmany(timeout_ms=1000)).values():
                found += batch
        return found
    finally:
        await reader.stop()


async def wait_for_records(settings: Settings, topic: str, enough: Callable[[list[Any]], bool], *, timeout_s: float = 60.0) -> list[Any]:
    """Return the records of a topic as soon as they are enough; TimeoutError otherwise."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = await records(settings, topic)
            if enough(found):
                return found
            await asyncio.sleep(0.2)


@asynccontextmanager
async def reading_group(settings: Settings, group: str) -> AsyncIterator[Any]:
    """Yield a consumer that may ask for a group's commits, as no member of it."""
    reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=settings.topic_prefix + group, enable_auto_commit=False)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


async def committed(settings: Settings, group: str, topic: str) -> bool:
    """Tell whether a group has committed every record of a topic that is in the log now."""
    async with reading_group(settings, group) as reader:
        partitions = [TopicPartition(settings.topic_prefix + topic, number) for number in range(settings.partitions)]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        return all([(await reader.committed(each) or 0) >= ends[each] for each in partitions])


async def committed_offset(settings: Settings, group: str, place: TopicPartition) -> int | None:
    """Return what a group has committed for a partition; None if nothing."""
    async with reading_group(settings, group) as reader:
        reader.assign([place])
        offset: int | None = await reader.committed(place)
        return offset
