"""Hosts the stage under Faust in the one shape that loses nothing (infra/decisions/0002-faust.md has what was found and where).

One agent reads raw bytes with `noack()` and hands each event to lanes. Events are acknowledged to Faust strictly in the order of their
offsets, when the watermark passes them, so Faust never sees a hole it could commit across. When partitions are revoked the lanes of the old
generation are ended and forgotten: Faust seeks every partition back to its committed offset and delivers again.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from infra.fault_points import point, without
from infra.kafka.record import Record
from infra.lanes import Lanes, Watermark
from infra.metrics import IN_FLIGHT, ORDER_VIOLATIONS

log = structlog.get_logger()

_IN_FLIGHT_MAX = 4096
_REVOKE_S = 2.0


class Stage(Protocol):
    """What is hosted."""

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        """Deal with one record; returns when all it led to is durable."""


class Log(Protocol):
    """What the log itself says of the topic."""

    async def next_to_read(self, topic: str, partition: int) -> int:
        """Return the offset that the group has to read next."""

    async def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`."""


class SkippedError(Exception):
    """Records that nobody was given: starting again begins at the committed offset, below them."""


class _Partition:
    """What is under way of one partition in one generation; holding the events keeps them from being collected."""

    def __init__(self) -> None:
        self.mark = Watermark()
        self.events: deque[Any] = deque()


@dataclass(frozen=True, slots=True)
class _Work:
    record: Record
    generation: int
    partition: _Partition


class FaustHost:
    """Runs a stage over a Faust stream. `generation` returns the consumer's current generation."""

    def __init__(
        self, stage: Stage, *, topic: str, log: Log, generation: Callable[[], int], on_fatal: Callable[[BaseException], None], name: str
    ) -> None:
        self._stage = stage
        self._log = log
        self._topic = topic
        self._generation = generation
        self._name = name
        self._on_fatal = on_fatal
        self._partitions: dict[int, _Partition] = {}
        self._lanes: Lanes[_Work] = Lanes(self._run_lane, limit=_IN_FLIGHT_MAX, on_fatal=on_fatal)
        IN_FLIGHT.labels(name).set_function(lambda: len(self._lanes))

    async def consume(self, events: AsyncIterator[Any]) -> None:
        """Take events (of a stream with `noack`) until the stream ends; waits while too many are inside."""
        async for event in events:
            message = event.message
            if message.generation_id != self._generation() and not without("generation"):
                continue  # fetched before a rebalance; it is delivered again
            partition = self._partitions.get(message.partition)
            if partition is None:
                partition = self._partitions[message.partition] = _Partition()
            if partition.mark.has_begun(message.offset):
                # Faust fetches before it seeks to the committed offset, and then delivers what it had once more. The first is done or
                # under way, and its acknowledgement counts for both: Faust goes by offsets.
                log.debug("delivered twice", partition=message.partition, offset=message.offset)
                continue
            try:
                await self._check_for_holes(partition, message.partition, message.offset)
                partition.mark.begin(message.offset)
            except Exception as error:  # noqa: BLE001  # also when the log does not say: never go on over what may be a hole
                # What is acknowledged already, or will be, would be committed over what was not given. Starting again begins there.
                ORDER_VIOLATIONS.labels(self._name).inc()
                self._on_fatal(error)
                return
            if self._partitions.get(message.partition) is not partition or message.generation_id != self._generation():
                continue  # taken away while the log was asked
            partition.events.append(event)
            await self._lanes.submit((message.partition, message.key), _Work(self._record(message), message.generation_id, partition))

    async def _check_for_holes(self, partition: _Partition, number: int, offset: int) -> None:
        """Raise SkippedError if records stand between what was given before, or was committed, and this offset.

        Faust was seen to begin one above the committed offset after a kill, and takes a hole of one for none when it commits.
        """
        is_first = partition.mark.first is None
        expected = await self._log.next_to_read(self._topic, number) if is_first else partition.mark.newest + 1
        if offset > expected and await self._log.first_at(self._topic, number, expected) < offset:
            raise SkippedError(f"partition {number} goes on at {offset}, and {expected} was not given")

    def _record(self, message: Any) -> Record:
        headers = message.headers or []
        return Record(
            topic=self._topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key or b"",
            value=message.value or b"",
            headers=list(headers.items() if isinstance(headers, dict) else headers),
            timestamp_ms=int((message.timestamp or 0) * 1000),
        )

    def _owns(self, work: _Work) -> bool:
        return without("generation") or (
            work.generation == self._generation() and self._partitions.get(work.record.partition) is work.partition
        )

    async def _run_lane(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            if not self._owns(work):
                return
            await self._stage.handle(work.record, partial(self._owns, work))
            point("streams.before_acknowledgement")
            self._end(work)

    def _end(self, work: _Work) -> None:
        partition = work.partition
        if not partition.mark.end(work.record.offset) or not self._owns(work):
            return
        position = partition.mark.position or 0
        while partition.events and partition.events[0].message.offset < position:
            partition.events.popleft().ack()

    async def forget(self, timeout_s: float = _REVOKE_S) -> None:
        """Let what is being handled end within `timeout_s` seconds and drop the rest: the partitions are going away, or we are."""
        await self._lanes.retire(timeout_s=timeout_s)
        self._partitions.clear()
