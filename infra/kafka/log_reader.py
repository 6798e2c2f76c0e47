"""Reads single records back by where they stand in the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.connection import aiokafka_options
from infra.kafka.record import Record, record_of
from infra.settings import Settings
from schemas.topics import Topic

_ANSWER_S = 10.0
# One record is wanted, not what follows it; a larger one comes whole all the same.
_FETCH_BYTES = 64 << 10


class LogReader:
    """Reads records of one topic; made by `log_reader`, and not for two tasks at once."""

    def __init__(self, consumer: Any, settings: Settings, topic: Topic) -> None:
        self._consumer = consumer
        self._settings = settings
        self._topic = topic

    async def read(self, partition: int, offset: int) -> Record | None:
        """Return the record that stands there; None if there is none (any more). KafkaUnreachableError when the broker does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._read(TopicPartition(self._topic.named(self._settings.topic_prefix), partition), offset)
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(self._settings.kafka) from None

    async def read_before(self, partition: int, before: int | None, *, count: int) -> list[Record]:
        """Return the last records of a partition below an offset (None: the end), oldest first, at most `count`.

        KafkaUnreachableError when the broker does not answer.
        """
        place = TopicPartition(self._topic.named(self._settings.topic_prefix), partition)
        found: list[Record] = []
        try:
            async with asyncio.timeout(_ANSWER_S):
                self._consumer.assign([place])
                beginnings, ends = await self._consumer.beginning_offsets([place]), await self._consumer.end_offsets([place])
                end = ends[place] if before is None else min(before, ends[place])
                begin = max(beginnings[place], end - count)
                if begin < end:
                    self._consumer.seek(place, begin)
                while begin < end:
                    record = await self._consumer.getone(place)
                    begin = record.offset + 1
                    if record.offset < end:
                        found.append(record_of(record, self._topic.name))
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(self._settings.kafka) from None
        return found

    async def _read(self, place: TopicPartition, offset: int) -> Record | None:
        if place.partition not in (self._consumer.partitions_for_topic(place.topic) or ()):
            return None
        self._consumer.assign([place])
        beginnings, ends = await self._consumer.beginning_offsets([place]), await self._consumer.end_offsets([place])
        if not beginnings[place] <= offset < ends[place]:
            return None
        self._consumer.seek(place, offset)
        found = await self._consumer.getone(place)
        return record_of(found, self._topic.name) if found.offset == offset else None


@asynccontextmanager
async def log_reader(settings: Settings, topic: Topic) -> AsyncIterator[LogReader]:
    """Yield a reader of the topic; KafkaUnreachableError when no broker answers."""
    consumer = AIOKafkaConsumer(
        **aiokafka_options(settings),
        client_id=f"{settings.worker}-reader",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await consumer.start()
                # Asking for one of its partitions is what makes the client know how many there are.
                first = TopicPartition(topic.named(settings.topic_prefix), 0)
                consumer.assign([first])
                await consumer.beginning_offsets([first])
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(settings.kafka) from None
        yield LogReader(consumer, settings, topic)
    finally:
        await consumer.stop()
