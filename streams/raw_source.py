"""Where [raw] stands, and going back in it: the corrections to what Faust delivers (infra/decisions/0002-faust.md)."""

from collections.abc import Callable, Collection
from typing import Any

from faust.types import TP

from infra.kafka.group_log import GroupLog
from schemas.topics import RAW


class RawSource:
    """What the host asks and tells about the topic it is given records of. `consumer` returns Faust's consumer."""

    def __init__(self, log: GroupLog, consumer: Callable[[], Any], *, prefix: str) -> None:
        self._log = log
        self._consumer = consumer
        self._topic = RAW.named(prefix)
        self._add_gap: Any = None

    async def next_to_read(self, partition: int) -> int:
        """Return the offset that the group has to read next; AwayError if the broker does not say."""
        return await self._log.next_to_read(RAW.name, partition)

    async def first_at(self, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`; AwayError if the broker does not say."""
        return await self._log.first_at(RAW.name, partition, offset)

    async def go_back(self, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again."""
        # Its `seek` would reach into the consumer's thread from ours.
        await self._consumer().seek_wait({TP(self._topic, partition): offset})

    async def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset after the last record of each partition; AwayError if the broker does not say."""
        return await self._log.ends(RAW.name, partitions)

    def owned(self) -> list[int]:
        """Return the partitions of the topic that are assigned to Faust."""
        return sorted(place.partition for place in self._consumer().assignment() if place.topic == self._topic)

    async def note_gap(self, partition: int, first: int, last: int) -> None:
        """Tell Faust that the log has no records at these offsets, so that it commits over them."""
        await self._add_gap(TP(self._topic, partition), first, last)

    def without_guesses(self, consumer: Any) -> Any:
        """Return Faust's consumer without its own idea of gaps: it takes what it has not delivered for acknowledged."""
        self._add_gap, consumer._add_gap = consumer._add_gap, _guess_nothing  # noqa: SLF001  # it can be turned off nowhere else
        return consumer


async def _guess_nothing(*_: object) -> None:
    return
