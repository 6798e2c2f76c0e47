"""Reads the log for people: chosen records of any topics, from a place in them on, in the order of time, up to now or as they come.

It is a member of no group and commits nothing, so nobody notices it. What it holds in memory is bounded: of each partition what was fetched
last, a few hundred KiB or one batch of records if that is larger.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.errors import NotFoundError
from infra.kafka.admin import KafkaUnreachableError, list_topics
from infra.kafka.connection import aiokafka_options
from infra.kafka.record import Record, record_of
from infra.kafka.selection import Selection, Start
from infra.settings import Settings
from schemas.topics import TOPICS, Topic

Place = tuple[str, int]
"""A partition: the topic's name without the installation's prefix, and its number."""

_ANSWER_S = 10.0
_POLL_MS = 1_000
_IDLE_POLLS = 5
_FETCH_BYTES_MAX, _FETCH_BYTES_MIN = 256 << 10, 16 << 10
_FETCHED_BYTES = 32 << 20
_AT_ONCE = 500
_LAST_WINDOW_MIN, _LAST_WINDOW_FACTOR = 100, 4
_BY_NAME = {topic.name: topic for topic in TOPICS}


class Browser:
    """Reads one selection of records; made by `browser`, and not for two tasks at once.

    Every method raises KafkaUnreachableError when the broker does not answer.
    """

    def __init__(self, consumer: Any, settings: Settings, selection: Selection, sources: Mapping[Place, TopicPartition]) -> None:
        self._consumer = consumer
        self._settings = settings
        self._selection = selection
        self._sources = sources
        self._places = {source: place for place, source in sources.items()}
        self._rank = {place: number for number, place in enumerate(sources)}

    async def places(self, start: Start) -> dict[Place, int]:
        """Return the offset in each partition from which on to read; where that is not in the log (any more), the nearest one that is."""
        async with self._asking():
            beginnings, ends = await self._limits()
            if start.kind == "offset":
                return {place: min(max(start.number, beginnings[place]), ends[place]) for place in self._sources}
            if start.kind == "time":
                asked = dict.fromkeys(self._places, start.number)
                found = await self._consumer.offsets_for_times(asked)
                return {place: found[source].offset if found[source] else ends[place] for place, source in self._sources.items()}
        if start.kind == "last":
            return await self._last(start.number, beginnings, ends)
        return beginnings if start.kind == "beginning" else ends

    async def read(self, places: dict[Place, int]) -> AsyncGenerator[Record, None]:
        """Yield, in the order of their time, the wanted records from `places` on that are there at the call.

        `places` goes along: at any moment it is where reading has to go on after the records that were yielded.
        """
        async with self._asking():
            _, ends = await self._limits()
        async with aclosing(self._merged(dict(places), ends)) as records:
            async for record in records:
                places[record.topic, record.partition] = record.offset + 1
                yield record
        # What was passed over because it is not wanted need not be looked at again.
        places |= {place: max(ends[place], offset) for place, offset in places.items()}

    async def follow(self, places: dict[Place, int]) -> AsyncGenerator[Record, None]:
        """Yield what `read` does, then for ever what comes, as it comes; `places` goes along in the same way."""
        async with aclosing(self.read(places)) as records:
            async for record in records:
                yield record
        self._consumer.assign(list(self._places))
        for place, source in self._sources.items():
            self._consumer.seek(source, places[place])
        idle = 0
        while True:
            fetched = await self._fetched(self._places)
            idle = 0 if fetched else idle + 1
            if idle == _IDLE_POLLS:
                # No record and no broker look the same.
                idle = 0
                async with self._asking():
                    await self._consumer.end_offsets(list(self._places))
            ordered = sorted((record for records in fetched.values() for record in records), key=lambda record: record.timestamp_ms)
            for record in ordered:
                place = (record.topic, record.partition)
                places[place] = record.offset + 1
                if self._wants(record):
                    yield record

    async def _last(self, count: int, beginnings: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
        """Return from where on each partition has its share of the last wanted records; goes back in growing steps until it has."""
        lows = dict(ends)
        found: dict[Place, list[tuple[int, int]]] = {place: [] for place in self._sources}
        width = max(count, _LAST_WINDOW_MIN)
        while short := {place: low for place, low in lows.items() if low > beginnings[place] and len(found[place]) < count}:
            window = {place: max(beginnings[place], low - width) for place, low in short.items()}
            fresh: dict[Place, deque[tuple[int, int]]] = {place: deque(maxlen=count) for place in short}
            async with aclosing(self._merged(window, short)) as records:
                async for record in records:
                    fresh[record.topic, record.partition].append((record.timestamp_ms, record.offset))
            for place, low in window.items():
                found[place] = [*fresh[place], *found[place]][-count:]
                lows[place] = low
            width *= _LAST_WINDOW_FACTOR
        newest = sorted(
            (time_ms, self._rank[place], offset)
            for place, each in found.items()
            # Within a partition the order is that of the offsets, whatever its clock said.
            for time_ms, offset in zip(accumulate((time_ms for time_ms, _ in each), max), (offset for _, offset in each), strict=True)
        )[-count:]
        firsts: dict[int, int] = {}
        for _, rank, offset in newest:
            firsts.setdefault(rank, offset)
        return {place: firsts.get(rank, ends[place]) for place, rank in self._rank.items()}

    async def _merged(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> AsyncGenerator[Record, None]:
        """Yield the wanted records from `starts` up to, but not, `ends`, the earliest of all partitions first."""
        waiting = {self._sources[place]: ends[place] for place, offset in starts.items() if offset < ends[place]}
        if not waiting:
            return
        self._consumer.assign(list(waiting))
        for source in waiting:
            self._consumer.seek(source, starts[self._places[source]])
        left = dict(waiting)
        ahead: dict[TopicPartition, deque[Record]] = {source: deque() for source in waiting}
        earliest: list[tuple[int, int, int, Record]] = []
        while waiting or earliest:
            if waiting:
                await self._read_ahead(ahead, waiting, left)
                for source in [source for source in waiting if ahead[source]]:
                    heappush(earliest, self._entry(ahead[source].popleft()))
                waiting = {}
                if not earliest:
                    return
            *_, record = heappop(earliest)
            source = self._sources[record.topic, record.partition]
            if ahead[source]:
                heappush(earliest, self._entry(ahead[source].popleft()))
            elif source in left:
                waiting = {source: left[source]}
            yield record

    def _entry(self, record: Record) -> tuple[int, int, int, Record]:
        return (record.timestamp_ms, self._rank[record.topic, record.partition], record.offset, record)

    async def _read_ahead(
        self, ahead: Mapping[TopicPartition, deque[Record]], waiting: Collection[TopicPartition], left: dict[TopicPartition, int]
    ) -> None:
        """Fetch until each waiting partition has a wanted record or came to its end; then it is not `left` any more."""
        idle = 0
        while short := [source for source in waiting if not ahead[source] and source in left]:
            fetched = await self._fetched(short)
            for source, records in fetched.items():
                ahead[source].extend(record for record in records if record.offset < left[source] and self._wants(record))
            async with self._asking():
                positions = {source: await self._consumer.position(source) for source in short}
            ended = [source for source in short if positions[source] >= left[source]]
            for source in ended:
                del left[source]
            idle = 0 if fetched or ended else idle + 1
            if idle > _ANSWER_S * 1000 / _POLL_MS:
                raise KafkaUnreachableError(self._settings.kafka)

    async def _fetched(self, sources: Collection[TopicPartition]) -> dict[TopicPartition, list[Record]]:
        """Return what comes next of these partitions, waiting for at most a second."""
        try:
            found = await self._consumer.getmany(*sources, timeout_ms=_POLL_MS, max_records=_AT_ONCE)
        except KafkaError:
            raise KafkaUnreachableError(self._settings.kafka) from None
        return {source: [record_of(each, self._places[source][0]) for each in records] for source, records in found.items()}

    def _wants(self, record: Record) -> bool:
        return self._selection.wants(record, _BY_NAME[record.topic])

    async def _limits(self) -> tuple[dict[Place, int], dict[Place, int]]:
        """Return of each partition the first offset that is there, and the one after the last."""
        self._consumer.assign(list(self._places))
        beginnings = await self._consumer.beginning_offsets(list(self._places))
        ends = await self._consumer.end_offsets(list(self._places))
        return tuple({place: int(found[source]) for place, source in self._sources.items()} for found in (beginnings, ends))  # type: ignore[return-value]

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_ANSWER_S):
                yield
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(self._settings.kafka) from None


@asynccontextmanager
async def browser(settings: Settings, selection: Selection) -> AsyncIterator[Browser]:
    """Yield a browser of the selected records.

    NotFoundError if a topic or partition is not there, KafkaUnreachableError when no broker answers.
    """
    sources = await _sources(settings, selection)
    fetch_bytes = max(_FETCH_BYTES_MIN, min(_FETCH_BYTES_MAX, _FETCHED_BYTES // len(sources)))
    consumer = AIOKafkaConsumer(
        **aiokafka_options(settings),
        client_id=f"{settings.worker}-browser",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=fetch_bytes,
        fetch_max_bytes=_FETCHED_BYTES,
    )
    try:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await consumer.start()
        except (KafkaError, TimeoutError):
            raise KafkaUnreachableError(settings.kafka) from None
        yield Browser(consumer, settings, selection, sources)
    finally:
        # A broker that is away must not hold up the end.
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                await consumer.stop()


async def _sources(settings: Settings, selection: Selection) -> dict[Place, TopicPartition]:
    counts = {found.topic.name: found.partitions for found in await list_topics(settings)}
    return {
        (topic.name, number): TopicPartition(topic.named(settings.topic_prefix), number)
        for topic in selection.topics
        for number in selection.partitions(topic, _counted(topic, counts[topic.name]))
    }


def _counted(topic: Topic, partitions: int) -> int:
    if not partitions:
        raise NotFoundError(f"Topic {topic.name} is not there: run `ottla topics create`.")
    return partitions
