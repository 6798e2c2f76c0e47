"""Where [raw] stands, and going back in it: the corrections to what Faust delivers (infra/decisions/0002-faust.md)."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from faust.types import TP

from infra.kafka.group_log import GroupLog
from schemas.topics import RAW

Write = Callable[[Mapping[int, int]], Awaitable[bool]]
Commit = Callable[[Write], Awaitable[bool]]


class RawSource:
    """What the host asks and tells about the topic it is given records of. `consumer` returns Faust's consumer."""

    def __init__(self, log: GroupLog, consumer: Callable[[], Any], *, prefix: str) -> None:
        self._log = log
        self._consumer = consumer
        self._topic = RAW.named(prefix)

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

    def correct(self, consumer: Any, commit: Commit) -> Any:
        """Return Faust's consumer, which commits what `commit` gives to its argument, and nothing that it concludes by itself.

        Its own idea takes what it has not delivered for acknowledged, and forgets what it failed to commit once.
        """

        async def write(offsets: Mapping[int, int]) -> bool:
            return bool(await consumer._commit_offsets({TP(self._topic, number): offset for number, offset in offsets.items()}))  # noqa: SLF001

        async def commit_tps(*_: object, **__: object) -> bool:
            return await commit(write)

        consumer._add_gap, consumer._commit_tps = _nothing, commit_tps  # noqa: SLF001  # they can be replaced nowhere else
        return consumer


async def _nothing(*_: object) -> None:
    return
