"""Reads stretches of the log whose ends are fixed before it begins, and hands them to lanes: for replay and for rebuilding.

It is no member of a group: partitions are assigned by hand, so nobody's partitions move. How far it is it commits for a group of its own
name, so that Kafka's tools show it; nothing ever begins there.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.errors import OttlaError
from infra.kafka.admin import KafkaUnreachableError, TopicsError
from infra.kafka.connection import aiokafka_options
from infra.kafka.record import Record, record_of
from infra.kafka.whole import whole
from infra.lanes import Lanes, Watermark
from infra.settings import Settings

log = structlog.get_logger()

Due = Callable[[Record], float]
"""Returns when (time.monotonic) a record may be handed out."""

_ANSWER_S = 15.0
_STALLED_S = 60.0
_POLL_MS = 500
_FETCH_WAIT_MS = 10
"""How long the broker may keep a fetch open that finds nothing. Whatever is read is there already, so a longer wait brings no record, but
keeps back every question behind it on the same connection."""
_LOOK_S = 0.02
_COMMIT_S = 1.0
_COMMIT_ANSWER_S = 3.0
_RETIRE_S = 4.0
_RECORDS_AT_ONCE = 2_000


class GoneError(OttlaError):
    """Records that were to be read are not there any more."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one partition from offset `start` up to, not including, `end`; the topic is named without the prefix."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """How many offsets it has."""
        return max(0, self.end - self.start)


Gone = Callable[[Stretch], None]
"""Is told of offsets that were to be read and are not there any more."""


def refuse_gone(gone: Stretch) -> None:
    """Raise GoneError."""
    offsets = f"offsets {gone.start} to {gone.end - 1}"
    raise GoneError(f"{gone.topic}/{gone.partition} has lost its {offsets}, and no archive has them: begin again from what there is.")


@dataclass
class _Part:
    """What is left to read of a partition: from offset `at` up to, not including, `end`."""

    stretch: Stretch
    at: int

    @property
    def end(self) -> int:
        return self.stretch.end

    def missing(self, upto: int) -> Stretch:
        """Return what there is not of it before an offset."""
        return msgspec.structs.replace(self.stretch, start=self.at, end=min(upto, self.end))


class Older(Protocol):
    """What has records that the log does not have any more; `log_begin` is the first offset that the log still has."""

    async def has(self, topic: str) -> bool:
        """Tell whether it has anything of a topic: else the log is not asked more than without it."""

    async def beginning(self, topic: str, partition: int, log_begin: int) -> int:
        """Return the first offset from which on both together have everything."""

    async def since(self, topic: str, partition: int, time_ms: int, log_begin: int) -> int | None:
        """Return the offset of the first record before `log_begin` that was stored at `time_ms` or later."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        """Yield the records from `start` up to `end`, not included, in order."""


class BoundedReader:
    """Asks where things stand in the log, and reads stretches of it; made by `bounded_reader`, and not for two tasks at once.

    With `older`, what that has before the log's beginning is taken for a part of the log. Everything raises KafkaUnreachableError when no
    broker answers, TopicsError for a topic that does not exist, and whatever `older` raises.
    """

    def __init__(self, consumer: Any, settings: Settings, group: str, older: Older | None = None) -> None:
        self._consumer = consumer
        self._older = older
        self._group = settings.topic_prefix + group
        self._settings = settings
        self._prefix = settings.topic_prefix

    async def beginnings(self, topic: str) -> dict[int, int]:
        """Return the offset of the first record that there is of each partition."""
        places = await self._places(topic)
        begins = _by_number(await self._asked(self._consumer.beginning_offsets(places)))
        if self._older is None:
            return begins
        return {number: await self._older.beginning(topic, number, begin) for number, begin in begins.items()}

    async def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last record of each partition."""
        places = await self._places(topic)
        return _by_number(await self._asked(self._consumer.end_offsets(places)))

    async def since(self, topic: str, time_ms: int) -> dict[int, int]:
        """Return the offset of each partition's first record that was stored at `time_ms` or later; its end where there is none."""
        places = await self._places(topic)
        ends = await self._asked(self._consumer.end_offsets(places))
        found = await self._asked(self._consumer.offsets_for_times(dict.fromkeys(places, max(0, time_ms))))
        offsets = _by_number({place: ends[place] if (at := found.get(place)) is None else at.offset for place in places})
        if self._older is not None and await self._older.has(topic):
            begins = _by_number(await self._asked(self._consumer.beginning_offsets(places)))
            for number, offset in offsets.items():
                if offset <= begins[number]:
                    before = await self._older.since(topic, number, time_ms, begins[number])
                    offsets[number] = offset if before is None else before
        return offsets

    async def _places(self, topic: str) -> list[TopicPartition]:
        name = self._prefix + topic
        if name not in await self._asked(self._consumer.topics()):
            raise TopicsError(f"Topic {name} does not exist: run `ottla topics create`.")
        # Asking for one of its partitions is what makes the client know how many there are.
        first = TopicPartition(name, 0)
        self._assign_unread([first])
        await self._asked(self._consumer.beginning_offsets([first]))
        numbers = self._consumer.partitions_for_topic(name) or set()
        places = [TopicPartition(name, number) for number in sorted(numbers)]
        self._assign_unread(places)
        return places

    def _assign_unread(self, places: list[TopicPartition]) -> None:
        """Have the client know these partitions, and fetch nothing of them: at once it would begin to, from their beginning."""
        self._consumer.assign(places)
        self._consumer.pause(*places)

    async def _asked(self, question: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await question
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(self._settings.kafka) from None

    async def read(
        self, stretches: Collection[Stretch], *, due: Due | None = None, gone: Gone | None = refuse_gone
    ) -> AsyncGenerator[list[Record], None]:
        """Yield the records of the stretches, those of a partition in their order; with `due`, all in the order of when they are due.

        What was deleted before it was read is passed over if `gone`, which is told of it before what comes after it, does not raise; with
        None nobody asks for it.
        """
        left = {TopicPartition(self._prefix + each.topic, each.partition): _Part(each, each.start) for each in stretches if each.length}
        older = await self._older_parts(left, gone)
        try:
            async for records in self._read(left, older, due, gone):
                yield records
        finally:
            for batches in older.values():
                await batches.aclose()

    async def _older_parts(
        self, left: dict[TopicPartition, _Part], gone: Gone | None
    ) -> dict[TopicPartition, AsyncGenerator[list[Record], None]]:
        """Return where the older records of the stretches come from, for those that begin before the log does."""
        if self._older is None:
            return {}
        known = {topic for topic in {each.stretch.topic for each in left.values()} if await self._older.has(topic)}
        places = [place for place, each in left.items() if each.stretch.topic in known]
        if not places:
            return {}
        self._assign_unread(places)
        begins = await self._asked(self._consumer.beginning_offsets(places))
        return {place: self._older_part(place, left, gone) for place in places if left[place].at < begins[place]}

    async def _older_part(
        self, place: TopicPartition, left: dict[TopicPartition, _Part], gone: Gone | None
    ) -> AsyncGenerator[list[Record], None]:
        """Yield what the log does not have of a stretch, also what it forgets meanwhile, and have the consumer go on behind it."""
        part = left[place]
        topic, number = part.stretch.topic, part.stretch.partition
        while self._older is not None:
            begin: int = (await self._asked(self._consumer.beginning_offsets([place])))[place]
            upto = min(begin, part.end)
            if part.at >= upto:
                break
            whole_from = await self._older.beginning(topic, number, begin)
            if whole_from > part.at:
                if gone is not None:
                    gone(part.missing(whole_from))
                part.at = whole_from
                continue
            async with aclosing(self._older.read(topic, number, part.at, upto)) as batches:
                async for records in batches:
                    yield records
            part.at = upto
        if part.at >= part.end:
            del left[place]  # the log may begin anywhere behind it, so nothing is to be looked for there
            return
        self._consumer.seek(place, part.at)
        self._consumer.resume(place)

    async def _read(
        self,
        left: dict[TopicPartition, _Part],
        older: dict[TopicPartition, AsyncGenerator[list[Record], None]],
        due: Due | None,
        gone: Gone | None,
    ) -> AsyncIterator[list[Record]]:
        self._consumer.assign(list(left))
        for place, part in left.items():
            if place in older:
                self._consumer.pause(place)
            else:
                self._consumer.seek(place, part.at)
        held: dict[TopicPartition, deque[Record]] = {}
        moved_at = time.monotonic()
        while left or held:
            await _take_older(older, held)
            wanted = [place for place in left if place not in held and place not in older]
            if wanted:
                held.update(await self._fetch(wanted, left, gone, timeout_ms=0 if held else _POLL_MS))
            if held or not wanted:
                moved_at = time.monotonic()
            elif left and time.monotonic() > moved_at + _STALLED_S:
                raise KafkaUnreachableError(self._settings.kafka)
            if records := _taken(held, due, time.monotonic()):
                yield records
            elif held:
                await asyncio.sleep(_LOOK_S)

    async def _fetch(
        self, wanted: Sequence[TopicPartition], left: dict[TopicPartition, _Part], gone: Gone | None, *, timeout_ms: int
    ) -> dict[TopicPartition, deque[Record]]:
        """Return what comes of the wanted partitions, and forget in `left` those of which all has come."""
        found = await self._consumer.getmany(*wanted, timeout_ms=timeout_ms, max_records=_RECORDS_AT_ONCE)
        fetched = {}
        for place in wanted:
            part, records = left[place], found.get(place, ())
            with suppress(KafkaError):
                position = await self._consumer.position(place)
                begins_at = records[0].offset if records else position
                if gone is not None and begins_at > part.at:
                    await self._look_for_gone(place, part, begins_at, gone)
                # The position may be behind a hole that is not seen yet: behind the records in hand the log may have lost some meanwhile.
                part.at = max(part.at, records[-1].offset + 1 if records and gone is not None else position)
                if part.at >= part.end:
                    del left[place]
                    self._consumer.pause(place)
            if within := deque(record_of(each, part.stretch.topic) for each in records if each.offset < part.end):
                fetched[place] = within
        return fetched

    async def _look_for_gone(self, place: TopicPartition, part: _Part, upto: int, gone: Gone) -> None:
        """Tell of what is missing before the next record, at `upto`, unless it never was there: the log begins behind it then."""
        begin = (await self._asked(self._consumer.beginning_offsets([place])))[place]
        if begin > part.at:
            gone(part.missing(min(begin, upto)))

    async def run(
        self,
        stretches: Collection[Stretch],
        handle: Callable[[Sequence[Record]], Awaitable[None]],
        *,
        limit: int,
        batch_max: int = 1,
        due: Due | None = None,
        advanced: Callable[[int], None] = lambda _: None,
        stopping: asyncio.Event | None = None,
        gone: Gone | None = refuse_gone,
    ) -> bool:
        """Hand each conversation's records, in order, to `handle`, at most `limit` of them inside; return whether all were handled.

        False: `stopping` was set, and what was being handled has ended. `advanced` is told how many more are done, `gone` what is not there
        any more (see `read`). Raises what escapes `handle`.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def failed(error: BaseException) -> None:
            if not ended.done():
                ended.set_exception(error)

        run = _Run(handle, advanced, limit=limit, batch_max=batch_max, failed=failed)
        reading = asyncio.create_task(run.take(self.read(stretches, due=due, gone=gone)), name="read")
        showing = asyncio.create_task(self._show(run, stretches), name="show")
        stops = asyncio.create_task(_set(stopping or asyncio.Event()), name="stop")
        try:
            await asyncio.wait({reading, ended, stops}, return_when=asyncio.FIRST_COMPLETED)
            for first in (ended, reading):
                if first.done():
                    first.result()
            return reading.done()
        finally:
            reading.cancel()
            await run.stop()
            for task in (showing, stops):
                task.cancel()
            await asyncio.gather(reading, showing, stops, return_exceptions=True)
            ended.cancel()

    async def _show(self, run: "_Run", stretches: Collection[Stretch]) -> None:
        """Commit how far the run is, now and then and when it ends."""
        places = [TopicPartition(self._prefix + each.topic, each.partition) for each in stretches]
        # Its own client: one that asks and reads without a group may be given other partitions at any time, this one may not.
        consumer = AIOKafkaConsumer(**aiokafka_options(self._settings), group_id=self._group, enable_auto_commit=False)
        try:
            await whole(consumer.start())
            consumer.assign(places)
            consumer.pause(*places)
            while True:
                await asyncio.sleep(_COMMIT_S)
                await _commit(consumer, run, self._prefix)
        except KafkaError as error:
            log.info("nobody is shown how far it is", group=self._group, error=str(error))
        finally:
            await _commit(consumer, run, self._prefix)
            await whole(consumer.stop())


class _Run:
    """Lanes over what is read, and how far they are."""

    def __init__(
        self,
        handle: Callable[[Sequence[Record]], Awaitable[None]],
        advanced: Callable[[int], None],
        *,
        limit: int,
        batch_max: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._handle = handle
        self._advanced = advanced
        self._lanes: Lanes[Record] = Lanes(
            self._run_lane, limit=limit, batch_max=batch_max, on_fatal=failed, weigh=lambda record: record.places
        )
        self._marks: dict[tuple[str, int], Watermark] = {}

    async def take(self, batches: AsyncIterator[list[Record]]) -> None:
        async for records in batches:
            for record in records:
                self._marks.setdefault((record.topic, record.partition), Watermark()).begin(record.offset)
                await self._lanes.submit((record.partition, record.key), record)
        while not await self._lanes.drain(_STALLED_S):
            pass

    async def _run_lane(self, records: Sequence[Record]) -> None:
        await self._handle(records)
        for record in records:
            self._marks[record.topic, record.partition].end(record.offset)
        self._advanced(len(records))

    def positions(self) -> Iterable[tuple[tuple[str, int], int]]:
        return [(place, mark.position) for place, mark in self._marks.items() if mark.position is not None]

    async def stop(self) -> None:
        await self._lanes.retire(timeout_s=_RETIRE_S)


@asynccontextmanager
async def bounded_reader(settings: Settings, *, group: str, older: Older | None = None) -> AsyncIterator[BoundedReader]:
    """Yield a reader that shows how far it is as `group`, of the log and of what is `older`; KafkaUnreachableError without a broker."""
    consumer = AIOKafkaConsumer(
        **aiokafka_options(settings),
        client_id=f"{settings.worker}-{group}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1 << 20,
        fetch_max_bytes=16 << 20,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await whole(consumer.start())
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(settings.kafka) from None
        yield BoundedReader(consumer, settings, group, older)
    finally:
        await whole(consumer.stop())


async def read_stretch(settings: Settings, stretch: Stretch, *, group: str) -> AsyncGenerator[list[Record], None]:
    """Yield the records of one stretch that are there yet, by a reader of its own; KafkaUnreachableError if no broker answers."""
    async with bounded_reader(settings, group=group) as reader, aclosing(reader.read([stretch], gone=None)) as batches:
        async for records in batches:
            yield records


async def _commit(consumer: Any, run: _Run, prefix: str) -> None:
    # It is shown and nothing else: that it cannot be is no reason to stop.
    with suppress(KafkaError, TimeoutError):
        if offsets := {TopicPartition(prefix + topic, number): at for (topic, number), at in run.positions()}:
            async with asyncio.timeout(_COMMIT_ANSWER_S):
                await consumer.commit(offsets)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _take_older(older: dict[TopicPartition, AsyncGenerator[list[Record], None]], held: dict[TopicPartition, deque[Record]]) -> None:
    """Hold the next older records of the places of which none are held, and forget the places that have no more."""
    for place in [place for place in older if place not in held]:
        batch = await anext(older[place], None)
        if batch is None:
            del older[place]
        else:
            held[place] = deque(batch)


def _by_number(offsets: dict[TopicPartition, int]) -> dict[int, int]:
    return {place.partition: int(offset) for place, offset in offsets.items()}


def _taken(held: dict[TopicPartition, deque[Record]], due: Due | None, now: float) -> list[Record]:
    """Take the records that are due out of what is held, in the order of when they were; one partition's keep their own order."""
    if due is None:
        everything = [record for records in held.values() for record in records]
        held.clear()
        return everything
    taken: list[tuple[float, Record]] = []
    for place in list(held):
        records = held[place]
        latest = 0.0
        while records and (at := due(records[0])) <= now:
            latest = max(latest, at)
            taken.append((latest, records.popleft()))
        if not records:
            del held[place]
    return [record for _, record in sorted(taken, key=lambda each: each[0])]
