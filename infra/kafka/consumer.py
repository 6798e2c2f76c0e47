"""A consumer group member that hosts lanes on aiokafka: used by the sinks and by replay.

What it takes care of, because aiokafka's defaults would lose or double records: offsets are committed by hand and only below the
watermark; when partitions are taken away, running handlers may end, what is queued is dropped and the rest is committed; records that were
fetched before a rebalance are not started after it. Partitions are assigned by range, so that with equal partition counts the same number
of every topic goes to the same member.

A sink whose effect must not happen twice claims a record before its effect (`claim`): the claim is in the metadata of an offset commit,
which the broker takes from the owner of the partition alone. Right before the effect it says so (`begins`), and claims that a former
owner left open are kept until their records are done, whoever owns the partition by then (infra/decisions/0007-claims.md).
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalOperation, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from infra.fault_points import point, without
from infra.kafka.claims import CLAIMS_MAX, Claims, ClaimsError, decode_claims, encode_claims
from infra.kafka.connection import aiokafka_options
from infra.kafka.departures import Departures, Place, begun_by
from infra.kafka.order_violations import OrderViolations
from infra.kafka.read_partitions import FETCHED_MAX, ReadPartitions
from infra.kafka.record import Record, record_of
from infra.lanes import Lanes, OrderError, Watermark
from infra.settings import Settings
from schemas.groups import SESSION_S
from schemas.topics import Topic

log = structlog.get_logger()

_COMMIT_INTERVAL_S = 0.3
_RETIRE_S = 4.0
_LOOK_S = 1.0
_DAY_MS = 86_400_000
_CLAIM_RETRY_S = 0.05
# What a killed process has claimed and not sent is parked where its file is not at hand: so few at once that it stays rare, enough for
# thousands a second.
_CLAIMS_AT_ONCE = 32
_APART = "apart"
# Of a partition. Where more fail, it is nothing of single conversations: their lane waits for them as well.
APART_MAX = 20

CLAIM_S = 5.0
"""How long a claim is good, in monotonic seconds from before it was asked for. Its holder looks once more right before the effect."""


class LostPartitionError(Exception):
    """The record's partition belongs to somebody else by now: no effect may follow."""


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
class _Wanted:
    source: TopicPartition
    offset: int
    granted: asyncio.Future[float]


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
    `held_max` bounds, for some topics, how many records of a partition may be held: then it is not read until some are done.
    `at_once`, if given, is shown each record first: where it returns True the record needs no lane and is done. It never waits.
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
    ) -> None:
        self._settings = settings
        self._prefix = settings.topic_prefix
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
        self._committed: dict[TopicPartition, int] = {}
        self._commit_lock = asyncio.Lock()
        self._claimed: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        self._inherited: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        self._departures_folder = settings.home / "claims"
        self._departures: Departures | None = None
        self._claims_changed: set[TopicPartition] = set()
        self._wanted: list[_Wanted] = []
        self._claim_wanted = asyncio.Event()
        self._all_due_at = 0.0
        self._lanes: Lanes[_Work] = Lanes(self._run_lane, limit=limit, batch_max=batch_max, on_fatal=self._on_fatal, place=_place_in_lane)
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
        await self._consumer.start()
        self._tasks = [
            asyncio.create_task(self._guard(self._take()), name=f"take {self._group}"),
            asyncio.create_task(self._guard(self._commit_often()), name=f"commit {self._group}"),
        ]

    async def stop(self, timeout_s: float = _RETIRE_S) -> None:
        """Let running handlers end within `timeout_s` seconds, commit what is done, and stop."""
        if self._consumer is None:
            return
        # Handlers that may end still get their claims: taking stops first, commits go on until they have ended.
        await _end(self._tasks[:1])
        self.leaving.set()
        marks = dict(self._marks)
        await self._lanes.retire(timeout_s=timeout_s)
        await _end(self._tasks[1:])
        await self._commit(marks)
        await self._consumer.stop()
        if self._departures is not None:
            self._departures.close(remove=not any(self._claimed.values()))

    @property
    def in_flight(self) -> int:
        """How many records are queued or being handled."""
        return len(self._lanes)

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
                    mark.begin(found.offset)
                    record = record_of(found, topic)
                    if self._at_once(record):
                        mark.end(found.offset)
                    else:
                        await self._lanes.submit((partition.partition, self._lane(record)), _Work(record, partition, mark))

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
            self._forget_claim(work.source, work.record.offset)
            if work.is_apart and self._marks.get(work.source) is work.mark:
                self._apart[work.source] -= 1

    async def claim(self, record: Record) -> float:
        """Claim a record before its effect; return until when (time.monotonic) the effect may begin.

        All that is claimed in one moment shares one commit. Raises LostPartitionError if the partition is somebody else's.
        """
        if self._departures is None:
            self._departures = Departures(self._departures_folder)
        source = self._source(record)
        granted: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Wanted(source, record.offset, granted))
        self._claim_wanted.set()
        return await granted

    def begins(self, record: Record) -> None:
        """Note that the effect of a claimed record begins, before it does."""
        if self._departures is not None:
            self._departures.begin(_place(self._source(record), record.offset))

    def unclaim(self, record: Record) -> None:
        """Give a claim back whose effect certainly did not happen; the next commit says so."""
        source = self._source(record)
        if self._departures is not None:
            self._departures.give_back(_place(source, record.offset))
        self._forget_claim(source, record.offset)

    def _source(self, record: Record) -> TopicPartition:
        return TopicPartition(self._prefix + record.topic, record.partition)

    def _is_claimed(self, claim: _Wanted) -> bool:
        """Tell whether the partition is still the one the claim was made for: a commit may wait until after a rebalance."""
        return claim.source in self._marks and claim.offset in self._claimed.get(claim.source, ())

    def _forget_claim(self, source: TopicPartition, offset: int) -> None:
        for claims in (self._claimed, self._inherited):
            if offset in claims.get(source, ()):
                claims[source].discard(offset)
                self._claims_changed.add(source)
        if self._departures is not None:
            self._departures.forget(_place(source, offset))

    def _open_claims(self, source: TopicPartition, floor: int) -> Claims:
        token = self._departures.token if self._departures is not None else ""
        # A record that was claimed may have been deleted from the log: then the floor passes it without its end.
        inherited = frozenset(offset for offset in self._inherited.get(source, ()) if offset >= floor)
        return Claims(own=frozenset(self._claimed.get(source, ())), inherited=inherited, token=token)

    async def _commit_often(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_at(self._all_due_at, self._claim_wanted.set)
            try:
                await self._claim_wanted.wait()
            finally:
                timer.cancel()
            self._claim_wanted.clear()
            if loop.time() >= self._all_due_at:
                of = None
                self._all_due_at = loop.time() + _COMMIT_INTERVAL_S
            else:
                of = {claim.source for claim in self._wanted[:_CLAIMS_AT_ONCE]}
            if self._wanted:
                await self._commit_claims(of)
            elif of is None:
                await self._commit(self._marks)

    async def _commit_claims(self, of: Collection[TopicPartition] | None) -> None:
        """Make every claim that is wanted now with one commit; what does not fit, or was not answered, waits for the next one.

        The commit is `of` the partitions that these claims are made in, for each costs the broker a record; or of all (None).
        """
        started = time.monotonic()
        held: list[_Wanted] = []
        postponed: list[_Wanted] = []
        for claim in self._next_wanted():
            if claim.source not in self._marks:
                _refuse(claim)
            elif len(self._claimed[claim.source]) + len(self._inherited[claim.source]) >= CLAIMS_MAX:
                postponed.append(claim)
            else:
                self._claimed[claim.source].add(claim.offset)
                self._claims_changed.add(claim.source)
                held.append(claim)
        committed = await self._commit(self._marks, of)
        for claim in held:
            if claim.granted.done():
                continue
            if committed is None or not self._is_claimed(claim):
                _refuse(claim)
            elif committed:
                claim.granted.set_result(started + CLAIM_S)
            else:
                postponed.append(claim)
        if postponed:
            self._wanted[:0] = postponed
            await asyncio.sleep(_CLAIM_RETRY_S)
        if self._wanted:
            self._claim_wanted.set()

    def _next_wanted(self) -> list[_Wanted]:
        """Take the next claims but for those whose wanters gave up while no broker answered: their records may be done by now."""
        wanted, self._wanted = self._wanted[:_CLAIMS_AT_ONCE], self._wanted[_CLAIMS_AT_ONCE:]
        return [claim for claim in wanted if not claim.granted.done()]

    async def _commit(self, marks: Mapping[TopicPartition, Watermark], of: Collection[TopicPartition] | None = None) -> bool | None:
        """Commit positions and open claims that changed: True if the broker has them, False if it did not answer, None if refused."""
        async with self._commit_lock:
            changed = self._claims_changed if of is None else self._claims_changed.intersection(of)
            self._claims_changed = self._claims_changed - changed
            offsets: dict[TopicPartition, OffsetAndMetadata] = {}
            for partition in marks if of is None else of:
                mark = marks.get(partition)
                floor = mark.floor if mark is not None else None
                if floor is not None and (partition in changed or self._committed.get(partition) != floor):
                    offsets[partition] = OffsetAndMetadata(floor, encode_claims(floor, self._open_claims(partition, floor)))
            if not offsets:
                return True
            point("consumer.before_commit")
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError, IllegalOperation):
                # The partitions went to somebody else in the meantime: they repeat what was not committed, by its ids harmlessly.
                log.info("commit refused, partitions moved", group=self._group)
                return True if without("fence") else None
            except KafkaError as error:
                self._claims_changed |= changed
                log.warning("commit failed, will be repeated", group=self._group, error=str(error))
                return False
            point("consumer.committed")
            self._committed.update((partition, each.offset) for partition, each in offsets.items())
            return True

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let running handlers of these partitions end, commit, and forget them (aiokafka calls this before a rebalance)."""
        self._open.clear()
        self._epoch += 1
        self.leaving.set()
        numbers = {partition.partition for partition in revoked}
        leaving = {partition: self._marks.pop(partition) for partition in revoked if partition in self._marks}
        await self._lanes.retire(lambda key: key[0] in numbers, timeout_s=_RETIRE_S)  # type: ignore[index]
        await self._commit(leaving)
        for partition in revoked:
            self._committed.pop(partition, None)
            self._claimed.pop(partition, None)
            self._inherited.pop(partition, None)
        self._claims_changed.clear()
        for claim in self._wanted:
            _refuse(claim)
        self._wanted.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Start afresh with these partitions (aiokafka calls this after a rebalance, and may fetch while it waits here)."""
        self._epoch += 1
        self._committed.clear()
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
        """Return what is committed. Asked after the rebalance, so no former owner can add to it: its commits are refused by now."""
        # aiokafka's own `committed()` leaves out the metadata.
        answers = await self._consumer._coordinator.fetch_committed_offsets(list(assigned))  # noqa: SLF001
        found = []
        for partition in assigned:
            answer = answers.get(partition)
            committed = answer.offset if answer is not None and answer.offset >= 0 else None
            claims: frozenset[int] = frozenset()
            if committed is not None:
                claims = self._perhaps_happened(partition, committed, answer.metadata)
            self._inherited[partition] = set(claims)
            found.append(Taken(partition.topic.removeprefix(self._prefix), partition.partition, committed, claims))
        return found

    def _perhaps_happened(self, source: TopicPartition, committed: int, metadata: str) -> frozenset[int]:
        """Return the claims in the metadata but for those whose effect certainly did not begin."""
        try:
            claims = decode_claims(committed, metadata)
        except ClaimsError as error:
            log.warning("metadata of a commit is not ours", group=self._group, partition=source.partition, error=str(error))
            return frozenset()
        begun = begun_by(self._departures_folder, claims.token)
        if begun is None:
            return claims.own | claims.inherited
        return claims.inherited | {offset for offset in claims.own if _place(source, offset) in begun}


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _place_in_lane(work: _Work) -> tuple[Watermark, int]:
    # The mark stands for the partition in one assignment: in the next one its offsets may rightly begin lower.
    return work.mark, work.record.offset


def _place(source: TopicPartition, offset: int) -> Place:
    return (source.topic, source.partition, offset)


def _refuse(claim: _Wanted) -> None:
    if not claim.granted.done():
        claim.granted.set_exception(LostPartitionError())
