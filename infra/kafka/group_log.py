"""What the broker says of a group's place in the log, asked without being a member of the group.

By aiokafka, because librdkafka's admin client ends the process when it asks for a group's offsets and their coordinator goes away.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.connection import aiokafka_options
from infra.retries import AwayError
from infra.settings import Settings


class GroupLog:
    """Reads committed offsets of a group, and where records stand; topics are named without the installation's prefix.

    Connects when it is first asked. Every question raises AwayError if the broker does not answer it in time.
    """

    def __init__(self, settings: Settings, *, group: str, timeout_s: float = 15.0) -> None:
        self._settings = settings
        self._group = settings.topic_prefix + group
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._reader: Any = None

    async def close(self) -> None:
        """Close the connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def committed(self, topic: str, partition: int) -> int:
        """Return the offset that the group has committed, 0 if none."""
        async with self._asking(topic, partition) as (reader, source):
            return int(await reader.committed(source) or 0)

    async def next_to_read(self, topic: str, partition: int) -> int:
        """Return the offset that the group has to read next: what it has committed, as far as the log still has it."""
        async with self._asking(topic, partition) as (reader, source):
            beginning = (await reader.beginning_offsets([source]))[source]
            return max(int(beginning), int(await reader.committed(source) or 0))

    async def ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset after the last record of each partition."""
        async with self._asking(topic, *partitions) as (reader, _):
            name = self._settings.topic_prefix + topic
            ends = await reader.end_offsets([TopicPartition(name, number) for number in partitions])
            return {source.partition: int(end) for source, end in ends.items()}

    async def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`; waits for one."""
        async with self._asking(topic, partition) as (reader, source):
            reader.seek(source, offset)
            record = await reader.getone(source)
            return int(record.offset)

    @asynccontextmanager
    async def _asking(self, topic: str, partition: int, *more: int) -> AsyncIterator[tuple[Any, TopicPartition]]:
        source = TopicPartition(self._settings.topic_prefix + topic, partition)
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s):
                    if self._reader is None:
                        self._reader = await self._started()
                    self._reader.assign([source, *(TopicPartition(source.topic, number) for number in more)])
                    yield self._reader, source
            except (KafkaError, TimeoutError) as error:
                # A client that lost its broker may not find it again by itself.
                await self.close()
                raise AwayError(f"Kafka does not say where {self._group} stands: {error or 'no answer in time'}") from error

    async def _started(self) -> Any:
        reader = AIOKafkaConsumer(
            **aiokafka_options(self._settings), group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await reader.start()
        except BaseException:
            await reader.stop()
            raise
        return reader
