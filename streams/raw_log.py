"""What the log itself says of [raw]: Faust's word is not taken for where reading goes on (infra/decisions/0002-faust.md)."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.settings import Settings
from schemas.topics import RAW

_TIMEOUT_S = 15.0


class RawLog:
    """Reads committed offsets of a group, and where records stand, without being a member of it."""

    def __init__(self, settings: Settings, *, group: str) -> None:
        self._settings = settings
        self._group = group
        self._lock = asyncio.Lock()
        self._reader: Any = None

    async def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            await self._reader.stop()

    async def next_to_read(self, partition: int) -> int:
        """Return the offset that the group has to read next, where the log still has it; KafkaError if the broker does not say."""
        async with self._lock, asyncio.timeout(_TIMEOUT_S):
            reader, source = await self._assigned(partition)
            beginning = (await reader.beginning_offsets([source]))[source]
            return max(int(beginning), int(await reader.committed(source) or 0))

    async def first_at(self, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`; KafkaError or TimeoutError if the broker does not say."""
        async with self._lock, asyncio.timeout(_TIMEOUT_S):
            reader, source = await self._assigned(partition)
            reader.seek(source, offset)
            record = await reader.getone(source)
            return int(record.offset)

    async def _assigned(self, partition: int) -> tuple[Any, TopicPartition]:
        settings = self._settings
        if self._reader is None:
            self._reader = AIOKafkaConsumer(
                bootstrap_servers=settings.kafka, group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest"
            )
            await self._reader.start()
        source = TopicPartition(RAW.named(settings.topic_prefix), partition)
        self._reader.assign([source])
        return self._reader, source
