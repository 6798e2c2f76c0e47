"""Hosts the stage under Faust in the one shape that loses nothing (infra/decisions/0002-faust.md has what was found and where).

Faust's consumer hands on what it fetched (streams/raw_consumer.py), and each record goes to its lane. What is committed is the watermark
of each partition: the offset below which all is done. Of a conversation of which much waits the rest is left in the log for later
(infra/left_in_log.py). When partitions are revoked the lanes of the old generation are ended and forgotten:
Faust seeks every partition back to its committed offset and delivers again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from infra.fault_points import point, without
from infra.kafka.commits import LostPartitionError
from infra.kafka.order_violations import OrderViolations
from infra.kafka.record import Record, record_of
from infra.lanes import Lanes, OrderError, Watermark
from infra.left_in_log import LeftInLog
from infra.metrics import IN_FLIGHT, LEFT_IN_LOG
from infra.retries import AwayError

log = structlog.get_logger()

_IN_FLIGHT_MAX = 4096
_REVOKE_S = 2.0
_WATCH_S = 1.0
_GIVE_UP_AFTER = 120  # looks

Fetched = Mapping[int, Sequence[Any]]
"""aiokafka's records by partition, in the order of the log."""


class Stage(Protocol):
    """What is hosted."""

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        """Deal with one record; returns when all it led to is durable. Raises LostPartitionError as soon as it is not `owned` any more."""


class Source(Protocol):
    """What can be asked and told of the topic."""

    async def next_to_read(self, partition: int) -> int:
        """Return the offset that the group has to read next, as the broker has it."""

    async def first_at(self, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`."""

    async def go_back(self, partition: int, offset: int) -> None:
        """Have the records from `offset` on delivered again, unless the partition is somebody else's by now."""

    async def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset after the last record of each partition."""

    def read(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[Record], None]:
        """Yield the records from offset `start` up to, not including, `end`, in order."""

    def check(self) -> None:
        """Raise what ended the membership in the group, if it has ended."""


class SkippedError(Exception):
    """Records that nobody was given: starting again begins at the committed offset, below them."""


class StuckError(Exception):
    """A membership that does not come to its partitions: starting again joins the group anew."""


class _Standstill:
    """Counts how often in a row a membership was seen where it had been seen before."""

    def __init__(self) -> None:
        self._state: object = None
        self._times = 0

    def is_seen(self, state: object) -> bool:
        """Look once more; `state` is None while there is nothing to wait for."""
        before, self._state = self._state, state
        self._times = self._times + 1 if state is not None and state == before else 0
        return self._times > 0

    def check(self) -> None:
        """Raise StuckError after too many looks."""
        if self._times > _GIVE_UP_AFTER:
            raise StuckError(f"no partitions yet after {self._times} looks, with {self._state}: it is time to start again")


class _Partition:
    """What is under way of one partition in one generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.mark = Watermark()
        self.committed: int | None = None  # the position that was committed last in this generation
        self.missing: int | None = None  # the offset that was gone back for and has not come yet


@dataclass(slots=True)
class _Work:
    record: Record
    partition: _Partition


def _lane(record: Record) -> tuple[int, bytes]:
    return record.partition, record.key


def _place_in_lane(work: _Work) -> tuple[_Partition, int]:
    # What is under way of the partition in one generation: in the next one its offsets may rightly begin lower.
    return work.partition, work.record.offset


class FaustHost:
    """Runs a stage over a Faust stream. `generation` returns the consumer's current generation."""

    def __init__(
        self,
        stage: Stage,
        *,
        topic: str,
        source: Source,
        generation: Callable[[], int],
        on_fatal: Callable[[BaseException], None],
        name: str,
        violations: OrderViolations | None = None,
    ) -> None:
        self._stage = stage
        self._source = source
        self._topic = topic
        self._generation = generation
        self._given_up = on_fatal
        self._violations = violations or OrderViolations(name)
        self._partitions: dict[int, _Partition] = {}
        self._starts: dict[int, int] = {}
        self._is_closed = False  # what is queued is being dropped: whatever came after it would overtake it
        self._epoch = 0  # what was being taken when it was closed is taken no further, also where it is open again
        self._lanes: Lanes[_Work] = Lanes(
            self._run_lane,
            limit=_IN_FLIGHT_MAX,
            on_fatal=self._on_fatal,
            place=_place_in_lane,
            weigh=lambda work: work.record.places,
        )
        self._left = LeftInLog(self._lanes, lane=_lane, put=self._put_late, read=source.read, owns=self._has, failed=self._on_fatal)
        IN_FLIGHT.labels(name).set_function(lambda: len(self._lanes))
        LEFT_IN_LOG.labels(name).set_function(lambda: len(self._left))

    def _on_fatal(self, error: BaseException) -> None:
        if isinstance(error, OrderError):
            self._violations.note()
        self._given_up(error)

    async def take(self, fetched: Fetched, generation: int) -> None:
        """Take what the consumer fetched in this generation, in the order of the log; waits while too many are inside."""
        if self._is_closed:
            return
        epoch = self._epoch
        for number, records in fetched.items():
            for record in records:
                # Asked for each: while something is waited for, partitions may go and come.
                if epoch != self._epoch or (generation != self._generation() and not without("generation")):
                    return  # fetched before a rebalance; it is delivered again
                partition = self._partitions.get(number)
                if partition is None or (partition.generation != generation and not without("generation")):
                    # Between the loss of partitions and the next generation Faust goes on fetching: what was begun then is not done.
                    self._starts.pop(number, None)
                    partition = self._partitions[number] = _Partition(generation)
                mark = partition.mark
                follows = mark.first is not None and record.offset == mark.newest + 1
                if not follows and (not await self._is_taken(partition, record, generation) or epoch != self._epoch):
                    continue
                partition.missing = None
                if self._left.leaves(number, mark, (number, record.key or b""), record.offset):
                    continue
                mark.begin(record.offset)
                if self._lanes.is_full:
                    await self._lanes.wait_for_room()
                    if epoch != self._epoch:
                        return
                work = _Work(record_of(record, self._topic), partition)
                self._lanes.put(_lane(work.record), work)

    def _put_late(self, number: int, _: Watermark, record: Record) -> None:
        partition = self._partitions[number]
        self._lanes.put(_lane(record), _Work(record, partition))

    def _has(self, number: int, mark: Watermark) -> bool:
        partition = self._partitions.get(number)
        return partition is not None and partition.mark is mark and self._is_current(partition)

    def _is_current(self, partition: _Partition) -> bool:
        return partition.generation == self._generation()

    async def _is_taken(self, partition: _Partition, record: Any, generation: int) -> bool:
        """Tell whether a record that is not the next one after those before is to be taken all the same."""
        try:
            is_next = await self._is_next(partition, record, generation)
        except Exception as error:  # noqa: BLE001  # never go on over what may be a hole
            if self._partitions.get(record.partition) is partition and self._is_current(partition):
                self._close()
                self._on_fatal(error)
            return False  # else it went elsewhere meanwhile, and nobody can go back in it here
        return is_next and self._partitions.get(record.partition) is partition

    async def _is_next(self, partition: _Partition, record: Any, generation: int) -> bool:
        """Tell whether this is the record that follows, and wait for the broker where only it can say; False once it is delivered again."""
        while True:
            try:
                return await self._follows(partition, record.partition, record.offset)
            except AwayError as error:
                log.warning("waiting for the broker", partition=record.partition, offset=record.offset, error=str(error))
                await asyncio.sleep(_WATCH_S)
            if generation != self._generation() or self._partitions.get(record.partition) is not partition:
                return False

    async def _follows(self, partition: _Partition, number: int, offset: int) -> bool:
        """Tell whether this is the record that follows; have what was skipped delivered.

        Around its seeks Faust delivers records twice, and late ones before those they follow. Raises OrderError for an offset that can be
        nothing of that: what is done would be committed over it, and a process that starts again begins there.
        """
        mark = partition.mark
        if mark.has_begun(offset):
            return False  # done or under way
        if mark.first is not None and offset < mark.first:
            if offset < await self._source.next_to_read(number):
                return False  # somebody else did it while this process was paused
            raise OrderError(f"offset {offset} after {mark.newest}")
        expected = await self._expected(number)
        if offset <= expected:
            return True
        if partition.missing == expected:
            return False
        if await self._source.first_at(number, expected) >= offset:
            return True  # the log has nothing between them
        partition.missing = expected
        await self._go_back(number, expected)
        return False

    async def _expected(self, number: int) -> int:
        partition = self._partitions.get(number)
        if partition is not None and partition.mark.first is not None and self._is_current(partition):
            return partition.mark.newest + 1
        if number not in self._starts:
            self._starts[number] = await self._source.next_to_read(number)
        return self._starts[number]

    async def _go_back(self, number: int, offset: int) -> None:
        log.info("records were not delivered, going back", partition=number, offset=offset)
        await self._source.go_back(number, offset)

    async def watch(self, owned: Callable[[], Collection[int]], unsettled: Callable[[], object] = lambda: None) -> None:
        """Go back for records that are in the log and not delivered, in the partitions that `owned` names; runs until cancelled.

        Faust drops what it has fetched when a recovery ends at that moment, and its position then stands behind it: without a later
        record nothing would show the hole. And stop where the membership in the group has ended, which only fetching would tell otherwise,
        or does not come to its partitions: `unsettled` is None while it has them, else anything that changes as it gets on.
        """
        waiting: dict[int, tuple[int, int]] = {}
        standstill = _Standstill()
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                self._source.check()
                await self._look(waiting, owned())
                if standstill.is_seen(unsettled()):
                    await self._source.ends((0,))
                    standstill.check()
            except AwayError:  # nobody gets on while no broker answers
                waiting.clear()
                standstill = _Standstill()
            except Exception as error:  # noqa: BLE001  # aiokafka's, whatever it is
                self._on_fatal(error)
                return

    async def _look(self, waiting: dict[int, tuple[int, int]], numbers: Collection[int]) -> None:
        if len(self._lanes) >= _IN_FLIGHT_MAX or not numbers:
            waiting.clear()  # it is we who do not take them
            return
        ends = await self._source.ends(numbers)
        for number in numbers:
            expected = await self._expected(number)
            before, times = waiting.pop(number, (-1, 0))
            if expected >= ends[number]:
                continue
            times = times + 1 if before == expected else 0
            waiting[number] = (expected, times)
            if times > _GIVE_UP_AFTER:
                self._on_fatal(SkippedError(f"partition {number}: offset {expected} is not delivered"))
            elif times and times.bit_count() == 1:
                # After 1, 2, 4, ... looks: each time drops what was fetched of the partition, and on a busy machine that was on its way.
                await self._go_back(number, expected)

    def _owns(self, work: _Work) -> bool:
        return without("generation") or self._has(work.record.partition, work.partition.mark)

    async def _run_lane(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            if self._owns(work):
                try:
                    await self._stage.handle(work.record, partial(self._owns, work))
                except LostPartitionError:
                    pass  # it is not done, and so it is delivered again
                else:
                    point("streams.before_commit")
                    if self._owns(work):
                        work.partition.mark.end(work.record.offset)
            self._left.look()

    async def commit(self, write: Callable[[Mapping[int, int]], Awaitable[bool]]) -> bool:
        """Have the watermarks that moved written (offset by partition); `write` returns whether it was done. What failed comes again."""
        moved = {
            number: (partition, partition.mark.position)
            for number, partition in self._partitions.items()
            if partition.mark.position not in {None, partition.committed}
        }
        if not moved or not await write({number: position for number, (_, position) in moved.items() if position is not None}):
            return False
        for partition, position in moved.values():
            partition.committed = position
        return True

    def _close(self) -> None:
        self._is_closed = True
        self._epoch += 1

    async def drain(self, timeout_s: float) -> None:
        """Let what is being handled end within `timeout_s` seconds, drop the rest, and take nothing any more."""
        self._close()
        await self._left.stop()
        await self._lanes.retire(timeout_s=timeout_s)

    async def forget(self) -> None:
        """Let what is being handled end, and begin anew: the partitions are going away."""
        was_closed = self._is_closed
        await self.drain(_REVOKE_S)
        self._partitions.clear()
        self._starts.clear()
        self._is_closed = was_closed
