"""Restores the streams' table from its changelog, where Faust's own recovery would (infra/decisions/0015-restoring.md).

Faust reads changelogs with the consumer that reads everything else, and drops what it has fetched when a rebalance comes in between, its
position behind it: what was dropped is then missing in the table, or the recovery waits for it for ever. Here a reader of our own reads
each partition from where the local store stands to the end that the log had when it began.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

import structlog
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery

from infra.errors import OttlaError
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.bounded import Stretch, bounded_reader
from infra.kafka.record import Record
from infra.metrics import TABLE_RECOVERY_SECONDS, TABLE_REMAINING, TABLE_RESTORED
from infra.settings import Settings
from schemas.topics import CONVERSATIONS_CHANGELOG

log = structlog.get_logger()

_READER = "streams-restoring"
_TABLE = "conversations"
_AGAIN_S = 1.0
_LOOK_S = 0.01


class AheadError(OttlaError):
    """A local store knows of records that its changelog does not have."""


class Restored(Protocol):
    """The local store, as it is restored."""

    def next_to_restore(self, partition: int) -> int:
        """Return the offset of the first changelog record that is not in it yet."""

    def restore(self, partition: int, records: Sequence[Record]) -> None:
        """Write changelog records to it, and that it has them."""

    def restored(self, partition: int, end: int) -> None:
        """Note that it has all below `end`."""


class Restorer:
    """Brings partitions of the local store up to the end of their changelog."""

    def __init__(self, settings: Settings, table: Restored) -> None:
        self._settings = settings
        self._table = table
        self.restored = 0
        """How many changelog records were read so far, which tells whether it gets on."""
        self._left: dict[int, int] = {}  # offsets of each partition that are yet to be read
        self._count = TABLE_RESTORED.labels(_TABLE)
        TABLE_REMAINING.labels(_TABLE).set_function(lambda: sum(self._left.values()))

    async def restore(self, partitions: Collection[int]) -> None:
        """Return when all are restored; waits for a broker that is away, and may be cancelled and called again. AheadError."""
        restored = not partitions
        while not restored:
            try:
                await self._restore(partitions)
                restored = True
            except KafkaUnreachableError as error:
                log.warning("waiting to restore the table", error=str(error))
                await asyncio.sleep(_AGAIN_S)

    async def _restore(self, partitions: Collection[int]) -> None:
        began_at = time.monotonic()
        count = 0
        async with bounded_reader(self._settings, group=_READER) as reader:
            stretches = self._stretches(await reader.ends(CONVERSATIONS_CHANGELOG.name), partitions)
            ends = {each.partition: each.end for each in stretches}
            self._left = {each.partition: each.end - each.start for each in stretches}
            async for records in reader.read(stretches, gone=None):  # compaction leaves holes
                self._write(records)
                self._left |= {record.partition: ends[record.partition] - record.offset - 1 for record in records}
                self._count.inc(len(records))
                self.restored += len(records)
                count += len(records)
        # What compaction or markers left out at the end is not there to be read.
        self._left.clear()
        for number, end in ends.items():
            self._table.restored(number, end)
        took_s = time.monotonic() - began_at
        TABLE_RECOVERY_SECONDS.labels(_TABLE).observe(took_s)
        log.info("the table is restored", partitions=len(partitions), records=count, seconds=round(took_s, 3))

    def _stretches(self, ends: dict[int, int], partitions: Collection[int]) -> list[Stretch]:
        stretches = []
        for number in sorted(partitions):
            start, end = self._table.next_to_restore(number), ends[number]
            if start > end:
                raise AheadError(
                    f"The local store of partition {number} has {CONVERSATIONS_CHANGELOG.name} up to offset {start - 1}, the topic ends at "
                    f"{end}: is this another broker's store? If so, move {self._settings.home / 'streams' / self._settings.worker} away."
                )
            stretches.append(Stretch(topic=CONVERSATIONS_CHANGELOG.name, partition=number, start=start, end=end))
        return stretches

    def _write(self, records: Sequence[Record]) -> None:
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        for number, each in by_partition.items():
            self._table.restore(number, each)


class RestoringTables(TableManager):  # type: ignore[misc]  # Faust's types are not followed
    """Faust's manager of tables, with `app.restore` as the recovery."""

    logger = logging.getLogger("faust.tables")

    async def on_start(self) -> None:
        """Start once the agents' topics are known, for which Faust waits a second: one that comes later is subscribed to after 45 more."""
        wanted = {name for agent in self.app.agents.values() for name in agent.channel.topics}
        while not wanted <= {name for topic in self.app.topics for name in topic.topics}:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_LOOK_S)
        await self._update_channels()
        await self.recovery.start()

    _recovery: Recovery | None = None

    @property
    def recovery(self) -> Recovery:
        """Return the one recovery."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class _Recovery(Recovery):  # type: ignore[misc]  # as above
    """Restores in the step in which Faust would look how much there is to recover, and then has nothing left for Faust."""

    logger = logging.getLogger("faust.recovery")  # mode takes away one of its own names

    async def _build_highwaters(self, consumer: Any, tps: Any, destination: Any, title: str) -> None:  # noqa: ARG002  # Faust's signature
        destination.clear()
        if title == "active":
            restore: Callable[[Collection[int]], Awaitable[None]] = self.app.restore
            await restore({place.partition for place in tps})
            for place in tps:
                # Where Faust's consumer is put in the changelog, of which nothing is read any more.
                self.active_offsets[place] = self.tp_to_table[place].persisted_offset(place)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ARG002, ASYNC109  # Faust's signature
        # Faust goes on after a timeout as if all had been done.
        await super()._wait(coro)
