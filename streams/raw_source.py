"""Where [raw] stands, and going back in it: the corrections to what Faust delivers (infra/decisions/0002-faust.md)."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.types import TP

from infra.kafka.bounded import Stretch, read_stretch
from infra.kafka.group_log import GroupLog
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import RAW


class RawSource:
    """What the host asks and tells about the topic it is given records of. `consumer` returns Faust's consumer."""

    def __init__(self, log: GroupLog, consumer: Callable[[], Any], *, settings: Settings) -> None:
        self._log = log
        self._consumer = consumer
        self._settings = settings
        self.topic = RAW.named(settings.topic_prefix)

    async def next_to_read(self, partition: int) -> int:
        """Return the offset that the group has to read next; AwayError if the broker does not say."""
        return await self._log.next_to_read(RAW.name, partition)

    async def first_at(self, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`; AwayError if the broker does not say."""
        return await self._log.first_at(RAW.name, partition, offset)

    async def go_back(self, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again, unless the partition is somebody else's by now."""
        with suppress(IllegalStateError):  # whoever has it begins at what is committed
            await self._consumer().seek_wait({TP(self.topic, partition): offset})

    async def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset after the last record of each partition; AwayError if the broker does not say."""
        return await self._log.ends(RAW.name, partitions)

    def read(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[Record], None]:
        """Yield the records from offset `start` up to, not including, `end`; KafkaUnreachableError if no broker answers."""
        stretch = Stretch(topic=RAW.name, partition=partition, start=start, end=end)
        return read_stretch(self._settings, stretch, group="streams-left-in-log")

    def check(self) -> None:
        """Raise what the routine that keeps Faust in its group ended with, or what it waits with for somebody who fetches.

        While partitions move nobody fetches, and nobody is told.
        """
        consumer = self._consumer()._thread._consumer  # noqa: SLF001  # it can be asked nowhere else
        coordinator = None if consumer is None else consumer._coordinator  # noqa: SLF001
        if coordinator is None:
            return  # it is not connected yet
        if coordinator._coordination_task.done():  # noqa: SLF001
            coordinator._coordination_task.result()  # noqa: SLF001
        if (error := coordinator._pending_exception) is not None:  # noqa: SLF001
            raise error

    def owned(self) -> list[int]:
        """Return the partitions of the topic that are assigned to Faust."""
        return sorted(place.partition for place in self._consumer().assignment() if place.topic == self.topic)
