"""A consumer group member that hosts lanes on aiokafka: used by the sinks and by replay.

What it takes care of, because aiokafka's defaults would lose or double records: offsets are committed by hand and only below the
watermark; when partitions are taken away, running handlers may end, what is queued is dropped and the rest is committed; records that were
fetched before a rebalance are not started after it. Partitions are assigned by range, so that with equal partition counts the same number
of every topic goes to the same member.

A sink whose effect must not happen twice claims a record before its effect (`claim`): the claim is in the metadata of an offset commit,
which the broker takes from the owner of the partition alone. Right before the effect it says so (`begins`), and claims that a former
owner left open are kept until their records are done, whoever owns the partition by then. Commits and claims are `infra.kafka.commits`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from infra.kafka.bounded import Stretch, read_stretch
from infra.kafka.commits import Commits, LostPartitionError
from infra.kafka.connection import aiokafka_options
from infra.kafka.order_violations import OrderViolations
from infra.kafka.read_partitions import FETCHED_MAX, ReadPartitions
from infra.kafka.record import Record, record_of
from infra.lanes import Lanes, OrderError, Watermark
from infra.left_in_log import LeftInLog
from infra.settings import Settings
from schemas.groups import SESSION_S
from schemas.topics import Topic

log = structlog.get_logger()

_RETIRE_S = 4.0
_FAREWELL_S = 2.0
_LOOK_S = 1.0
_DAY_MS = 86_400_000
_PART_OF_SHARE = 8
_LANE_MIN_OF_SHARE = 4
_APART = "apart"
# Of a partition. Where more fail, it is nothing of single conversations: their lane waits for them as well.
APART_MAX = 20


class ApartError(Exception):
    """Records failed in a lane that many keys share: each key's are to be handed over apart from the others, which do not wait for them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was known of a partition when it was taken.

    The committed offset (None: nothing yet), and the claims above it whose effect may have happened.
    """

    topic: str
    partition: int
    committed: int | None
    claims: frozenset[int]


OnTaken = Callable[[Sequence[Taken]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Work:
    record: Record
    source: TopicPartition
    mark: Watermark
    is_apart: bool = False


class LaneConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """Reads topics as a member of a group and hands each conversation's records, in order, to `handle`.

    `handle` gets records of one lane that had queued up (at most `batch_max`) and deals with their errors itself; one that escapes goes to
    `on_fatal`, and the offset stays where it is; LostPartitionError may escape and only drops the record, and ApartError has the records go
    to `handle_apart`, each key's in a lane of its own, while their lane goes on.
    `taken`, if given, is awaited with the assigned partitions before any of their records is handled. `lane` says what shares a lane with
    what (by default: the key).
    `held_max` bounds, for some topics, how many records of their partitions together may be held, of which each has its share: one that has
    it is not read until some are done.
    `at_once`, if given, is shown each record first: where it returns True the record needs no lane and is done. It never waits.
    Of the topics in `left_in_log` a lane holds so many records and no more, and the others are left in the log meanwhile
    (`infra.left_in_log`): there a lane must be all of a key's records.
    `unhurried` topics may be read up to a quarter of a second late, so that one fetch brings many of their records.
    `ready` is set once partitions (perhaps none) were assigned.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        topics: Sequence[Topic],
        handle: Callable[[Sequence[Record]], Awaitable[None]],
        on_fatal: Callable[[BaseException], None],
        handle_apart: Callable[[Sequence[Record]], Awaitable[None]] | None = None,
        limit: int = 4096,
        batch_max: int = 1,
        taken: OnTaken | None = None,
        lane: Callable[[Record], Hashable] = lambda record: record.key,
        held_max: Mapping[str, int] | None = None,
        at_once: Callable[[Record], bool] = lambda _: False,
        unhurried: Collection[str] = (),
        left_in_log: Collection[str] = (),
    ) -> None:
        if left_in_log and batch_max > 1:
            raise ValueError("what is left in the log would stay there: as the last batch of a lane ends, all of it counts as inside")
        self._settings = settings
        self._prefix = settings.topic_prefix
        self._name = group
        self._group = settings.topic_prefix + group
        self._topics = topics
        self._handle = handle
        self._handle_apart = handle_apart or handle
        self._apart: Counter[TopicPartition] = Counter()
        self._given_up = on_fatal
        self._violations = OrderViolations(group, settings.home / "order-violations" / settings.worker)
        self._taken = taken
        self._lane = lane
        self._read_partitions = ReadPartitions(
            held_max={self._prefix + topic: count for topic, count in (held_max or {}).items()},
            unhurried=[self._prefix + topic for topic in unhurried],
        )
        self._at_once = at_once
        self._marks: dict[TopicPartition, Watermark] = {}
        self._commits = Commits(group=self._group, folder=settings.home / "claims", marks=lambda: self._marks)
        self._lanes: Lanes[_Work] = Lanes(
            self._run_lane,
            limit=limit,
            batch_max=batch_max,
            on_fatal=self._on_fatal,
            place=_place_in_lane,
            weigh=lambda work: work.record.places,
        )
        self._may_be_left = frozenset(left_in_log)
        self._left: LeftInLog[TopicPartition] = LeftInLog(
            self._lanes,
            lane=self._lane_of,
            put=lambda source, mark, record: self._lanes.put(self._lane_of(record), _Work(record, source, mark)),
            read=self._read,
            owns=lambda source, mark: self._marks.get(source) is mark,
            failed=self._on_fatal,
            # The same within the share of the partition.
            most=lambda source, mark: max(_LANE_MIN_OF_SHARE, self._read_partitions.room(source, mark) // _PART_OF_SHARE),
        )
        self._consumer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        # One epoch from one assignment to the next; records are handled only while it is open, and only those drained in it.
        self._epoch = 0
        self._open = asyncio.Event()
        self.ready = asyncio.Event()
        self.leaving = asyncio.Event()
        """Set while partitions are being taken away and when it stops: who only waits should leave its record to the next owner."""

    async def start(self) -> None:
        """Join the group and begin; raises aiokafka's KafkaError when no broker answers."""
        self._consumer = AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            client_id=f"{self._settings.worker}-{self._group}",
            group_id=self._group,
            group_instance_id=f"{self._settings.worker}-{self._group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(SESSION_S * 1000),
            heartbeat_interval_ms=1_000,
            rebalance_timeout_ms=30_000,
            # Ours may rightly wait long for room; whether it still moves is watched by lag, not by the time between two fetches.
            max_poll_interval_ms=_DAY_MS,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=16 << 20,
            retry_backoff_ms=250,
            metadata_max_age_ms=30_000,
        )
        self._consumer.subscribe([topic.named(self._prefix) for topic in self._topics], listener=self)
        self._commits.begin(self._consumer)
        await self._consumer.start()
        self._tasks = [
            asyncio.create_task(self._guard(self._take()), name=f"take {self._group}"),
            asyncio.create_task(self._guard(self._commits.commit_often()), name=f"commit {self._group}"),
        ]

    async def stop(self, timeout_s: float = _RETIRE_S) -> None:
        """Let running handlers end within `timeout_s` seconds, commit what is done, and stop."""
        if self._consumer is None:
            return
        # Handlers that may end still get their claims: taking stops first, commits go on until they have ended.
        await _end(self._tasks[:1])
        self.leaving.set()
        await self._left.stop()
        marks = dict(self._marks)
        await self._lanes.retire(timeout_s=timeout_s)
        await _end(self._tasks[1:])
        # aiokafka waits for a broker for ever, also for one that was stopped before us.
        await self._at_most(
            _FAREWELL_S, self._commits.commit(marks), "what was done since the last commit is repeated, which its ids make harmless"
        )
        await self._at_most(_FAREWELL_S, self._consumer.stop(), "the group waits for this member until its session ends")
        self._commits.close()

    async def _at_most(self, seconds: float, work: Awaitable[object], otherwise: str) -> None:
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            log.warning("no broker answered at the end", group=self._group, so=otherwise)

    @property
    def in_flight(self) -> int:
        """How many records are queued or being handled."""
        return len(self._lanes)

    @property
    def left_in_log(self) -> int:
        """Of how many conversations something is left in the log."""
        return len(self._left)

    def _on_fatal(self, error: BaseException) -> None:
        if isinstance(error, OrderError):
            self._violations.note()
        self._given_up(error)

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # a dead loop must stop the process, not vanish in a task
            self._on_fatal(error)

    async def _take(self) -> None:
        while True:
            wait_s = self._read_partitions.choose(self._consumer, self._marks)
            fetched = await self._consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=FETCHED_MAX)
            if not fetched:
                continue
            self._read_partitions.fetched(self._consumer, self._marks, fetched)
            epoch = self._epoch
            await self._opened()
            if epoch != self._epoch:
                continue  # drained before a rebalance: the new assignment starts again from the committed offsets
            marks = {partition: self._marks.get(partition) for partition in fetched}
            for partition, records in fetched.items():
                mark = marks[partition]
                topic = partition.topic.removeprefix(self._prefix)
                for found in records:
                    if mark is None or self._marks.get(partition) is not mark:
                        break  # taken away while we waited: its next owner reads from the committed offset
                    if self._read_partitions.is_enough(partition, mark):
                        self._consumer.seek(partition, found.offset)  # one fetch may bring more than is to be held
                        break
                    record = record_of(found, topic)
                    if topic in self._may_be_left and self._left.leaves(partition, mark, self._lane_of(record), record.offset):
                        continue
                    mark.begin(record.offset)
                    if self._at_once(record):
                        mark.end(record.offset)
                    else:
                        await self._lanes.submit(self._lane_of(record), _Work(record, partition, mark))

    def _lane_of(self, record: Record) -> tuple[int, Hashable]:
        return record.partition, self._lane(record)

    def _read(self, source: TopicPartition, start: int, end: int) -> AsyncGenerator[Sequence[Record], None]:
        stretch = Stretch(topic=source.topic.removeprefix(self._prefix), partition=source.partition, start=start, end=end)
        return read_stretch(self._settings, stretch, group=f"{self._name}-left-in-log")

    async def _opened(self) -> None:
        """Wait until partitions are assigned; raises aiokafka's KafkaError if nobody sees to that any more."""
        while not self._open.is_set():
            # Only fetching asks aiokafka otherwise, which is not done meanwhile.
            self._consumer._coordinator.check_errors()  # noqa: SLF001
            with suppress(TimeoutError):
                await asyncio.wait_for(self._open.wait(), _LOOK_S)

    async def _run_lane(self, batch: Sequence[_Work]) -> None:
        # What slipped into a lane while its partition was being taken away is its next owner's.
        ours = [work for work in batch if self._marks.get(work.source) is work.mark]
        if not ours:
            return
        records = [work.record for work in ours]
        try:
            try:
                await (self._handle_apart if ours[0].is_apart else self._handle)(records)
            except ApartError:
                if self._put_apart(ours):
                    return
                await self._handle_apart(records)
        except LostPartitionError:
            # What comes behind it in the lane must not overtake it: nothing of this partition is handled until it is assigned again.
            for work in ours:
                if self._marks.get(work.source) is work.mark:
                    del self._marks[work.source]
            return
        self._end_work(ours)
        self._left.look()

    def _put_apart(self, works: Sequence[_Work]) -> bool:
        """Give each key's records a lane of its own, unless too many are apart already: then they are to be handled where they are."""
        if self.leaving.is_set():
            return True  # they are not done, so the next owner repeats them
        if any(self._apart[work.source] >= APART_MAX for work in works):
            return False
        for work in works:
            self._apart[work.source] += 1
            lane = (work.source.partition, (_APART, self._lane(work.record), work.record.key))
            self._lanes.put(lane, replace(work, is_apart=True))
        return True

    def _end_work(self, works: Sequence[_Work]) -> None:
        for work in works:
            work.mark.end(work.record.offset)
            self._commits.forget_claim(work.source, work.record.offset)
            if work.is_apart and self._marks.get(work.source) is work.mark:
                self._apart[work.source] -= 1

    async def claim(self, record: Record) -> float:
        """Claim a record before its effect; return until when (time.monotonic) the effect may begin.

        All that is claimed in one moment shares one commit. Raises LostPartitionError if the partition is somebody else's.
        """
        return await self._commits.claim(self._source(record), record.offset)

    def begins(self, record: Record) -> None:
        """Note that the effect of a claimed record begins, before it does."""
        self._commits.begins(self._source(record), record.offset)

    def unclaim(self, record: Record) -> None:
        """Give a claim back whose effect certainly did not happen; the next commit says so."""
        self._commits.unclaim(self._source(record), record.offset)

    def _source(self, record: Record) -> TopicPartition:
        return TopicPartition(self._prefix + record.topic, record.partition)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let running handlers of these partitions end, commit, and forget them (aiokafka calls this before a rebalance)."""
        self._open.clear()
        self._epoch += 1
        self.leaving.set()
        numbers = {partition.partition for partition in revoked}
        leaving = {partition: self._marks.pop(partition) for partition in revoked if partition in self._marks}
        await self._left.stop()
        await self._lanes.retire(lambda key: key[0] in numbers, timeout_s=_RETIRE_S)  # type: ignore[index]
        await self._commits.commit(leaving)
        self._commits.forget(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Start afresh with these partitions (aiokafka calls this after a rebalance, and may fetch while it waits here)."""
        self._epoch += 1
        self._commits.forget_committed()
        if self._taken is not None and assigned:
            try:
                await self._taken(await self._found(assigned))
            except Exception as error:  # noqa: BLE001  # what must be known before sending could not be read: stop, never send blindly
                self._on_fatal(error)
                return
        self.leaving.clear()
        self._marks = {partition: Watermark() for partition in assigned}
        self._apart.clear()
        self._read_partitions.assigned(self._consumer, assigned)
        self._open.set()
        self.ready.set()

    async def _found(self, assigned: set[TopicPartition]) -> list[Taken]:
        found = await self._commits.find(assigned)
        return [
            Taken(partition.topic.removeprefix(self._prefix), partition.partition, each.committed, each.claims)
            for partition, each in found.items()
        ]


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _place_in_lane(work: _Work) -> tuple[Watermark, int]:
    # The mark stands for the partition in one assignment: in the next one its offsets may rightly begin lower.
    return work.mark, work.record.offset
