"""Questions to the broker that aiokafka's clients do not ask, or not right: many groups and partitions at once, as no group's member.

Each function asks once and raises aiokafka's KafkaError; `Questions` keeps the connection and tries again.

"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, NodeNotReadyError, NoError, OffsetOutOfRangeError, StaleMetadata, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record import MemoryRecords

from infra.closing import Closing
from infra.kafka.connection import aiokafka_options
from infra.retries import AwayError
from infra.settings import Settings

BEGINNING, END = -2, -1
"""Times that stand for the first record that is kept and for the end of the log, in `offsets_at`."""

# One record's time is wanted: a batch that is larger comes whole when its partition stands first in a request.
_PARTITION_BYTES, _FETCH_BYTES = 16 << 10, 8 << 20
# Each try that fails is a line of the client library's in the log.
_RETRY_S, _RETRY_S_MAX = 0.1, 2.0
_STAMPED_BY_BROKER = 1

R = TypeVar("R")


class Place(NamedTuple):
    """A partition of a topic, by the topic's name on the broker."""

    topic: str
    partition: int


class Commit(NamedTuple):
    """What a group has committed in one place."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A living member of a group, by its client id, with what is assigned to it."""

    client: str
    places: frozenset[Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A group as its coordinator has it: Stable, PreparingRebalance, CompletingRebalance, Empty or Dead (it does not exist)."""

    state: str
    members: tuple[Member, ...]


class Questions:
    """A connection for questions: made when it is first needed, and anew after a failure. One question at a time."""

    def __init__(self, settings: Settings, *, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._client: Any = None
        self._closing = Closing()

    async def ask(self, question: Callable[[Any], Awaitable[R]]) -> R:
        """Return what `question` makes of the client; what may pass is asked again. AwayError if there is no answer in time.

        AwayError too for a question that `close` finds under way.
        """
        async with self._lock:
            failures: list[KafkaError] = []
            try:
                async with self._closing.limited(self._timeout_s):
                    return await self._until_answered(question, failures)
            except (KafkaError, TimeoutError) as error:
                await self._close()
                raise AwayError(f"Kafka at {self._settings.kafka} does not say where groups stand: {self._why(error, failures)}") from error

    async def _until_answered(self, question: Callable[[Any], Awaitable[R]], failures: list[KafkaError]) -> R:
        delay_s = _RETRY_S
        while True:
            try:
                return await question(await self._connected())
            except KafkaError as error:
                failures.append(error)
                # A client that lost its broker may not find it again by itself.
                await self._close()
                if not error.retriable:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_S_MAX)

    def _why(self, error: KafkaError | TimeoutError, failures: Sequence[KafkaError]) -> str:
        if isinstance(error, KafkaError):
            return type(error).__name__
        why = "the connection was closed" if self._closing.is_closed else f"no answer in {self._timeout_s:g} s"
        return f"{why} ({type(failures[-1]).__name__})" if failures else why

    async def close(self) -> None:
        """Close the connection for good; a question under way has no answer then, whatever time it had left."""
        self._closing.close()
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> Any:
        if self._client is None:
            client = AIOKafkaClient(
                **aiokafka_options(self._settings),
                client_id=f"{self._settings.worker}-questions",
                request_timeout_ms=int(self._timeout_s * 1000),
            )
            try:
                await client.bootstrap()
                # With no topic named it learns of all there are, and the broker makes none of those that are missing.
                await _learn(client)
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client


async def places_of(client: Any, topics: Collection[str]) -> list[Place]:
    """Return every partition of those of the topics that exist."""
    if any(client.cluster.partitions_for_topic(topic) is None for topic in topics):
        await _learn(client)
    return [Place(topic, number) for topic in topics for number in sorted(client.cluster.partitions_for_topic(topic) or ())]


async def commits_of(client: Any, group: str, places: Collection[Place]) -> dict[Place, Commit]:
    """Return what a group has committed; a place where it has nothing yet is left out."""
    answer = await client.send(await _coordinator(client, group), OffsetFetchRequest(group, _by_topic(places)))
    _check(answer.error_code)
    found = {}
    for topic, partitions in answer.topics:
        for number, offset, metadata, error in partitions:
            _check(error)
            if offset >= 0:
                found[Place(topic, number)] = Commit(offset, metadata)
    return found


async def membership_of(client: Any, group: str) -> Membership:
    """Return a group's state and living members."""
    # One at a time: aiokafka reads answers about several groups wrongly (it leaves a field out).
    answer = await client.send(await _coordinator(client, group), DescribeGroupsRequest([group]))
    error, _, state, _, _, members = answer.groups[0][:6]
    _check(error)
    return Membership(state=state, members=tuple(_member(each) for each in members))


async def offsets_at(client: Any, times: Mapping[Place, int]) -> dict[Place, int | None]:
    """Return the offset of the first record at or after each place's time; None behind the last.

    Times are milliseconds since 1970, BEGINNING or END.
    """
    found: dict[Place, int | None] = {}
    for leader, places in _by_leader(client, times).items():
        wanted = [(topic, [(number, times[Place(topic, number)]) for number in numbers]) for topic, numbers in _by_topic(places)]
        answer = await client.send(leader, OffsetRequest(-1, 0, wanted))
        for topic, partitions in answer.topics:
            for number, error, _, offset in partitions:
                _check(error)
                found[Place(topic, number)] = offset if offset >= 0 else None
    return found


async def record_times(client: Any, offsets: Mapping[Place, int]) -> dict[Place, int]:
    """Return when the first record at or above each offset was written (milliseconds since 1970, as the record says).

    A place is left out whose offset is outside its log.
    """
    return await _of_first_records(client, offsets, _time_of_first)


async def first_offsets(client: Any, offsets: Mapping[Place, int]) -> dict[Place, int]:
    """Return the offset of the first record at or above each offset; a place is left out whose offset is outside its log."""
    return await _of_first_records(client, offsets, _offset_of_first)


async def _of_first_records(client: Any, offsets: Mapping[Place, int], read: Callable[[bytes, int], int | None]) -> dict[Place, int]:
    """Fetch the first record at or above each offset; return what `read` makes of the batches that were fetched and the offset."""
    found: dict[Place, int] = {}
    waiting = dict(offsets)
    while waiting:
        got: dict[Place, int | None] = {}
        for leader, places in _by_leader(client, waiting).items():
            wanted = [
                (topic, [(number, waiting[Place(topic, number)], _PARTITION_BYTES) for number in numbers])
                for topic, numbers in _by_topic(places)
            ]
            answer = await client.send(leader, FetchRequest(0, 0, _FETCH_BYTES, 0, wanted))
            for topic, partitions in answer.topics:
                for each in partitions:
                    place = Place(topic, each[0])
                    if each[1] == OffsetOutOfRangeError.errno:
                        got[place] = None
                        continue
                    _check(each[1])
                    if (first := read(each[-1] or b"", waiting[place])) is not None:
                        got[place] = first
        # A partition whose batch is large is answered when it stands first in the request, so each round answers some.
        found |= {place: first for place, first in got.items() if first is not None}
        waiting = {place: offset for place, offset in waiting.items() if place not in got} if got else {}
    return found


async def commit(client: Any, group: str, commits: Mapping[Place, Commit]) -> None:
    """Set a group's offsets, all of them or none; raises the broker's error for a group that is alive (UnknownMemberIdError)."""
    wanted = [
        (topic, [(number, commits[Place(topic, number)].offset, commits[Place(topic, number)].metadata) for number in numbers])
        for topic, numbers in _by_topic(commits)
    ]
    request = OffsetCommitRequest(group, OffsetCommitRequest.DEFAULT_GENERATION_ID, "", OffsetCommitRequest.DEFAULT_RETENTION_TIME, wanted)
    answer = await client.send(await _coordinator(client, group), request)
    for _, partitions in answer.topics:
        for _, error in partitions:
            _check(error)


async def _learn(client: Any) -> None:
    """Have the client learn what topics there are; NodeNotReadyError if no broker tells, or one that has just come names none."""
    if not await client.force_metadata_update() or not client.cluster.brokers():
        raise NodeNotReadyError


async def _coordinator(client: Any, group: str) -> int:
    if not client.cluster.brokers():
        raise NodeNotReadyError  # it would say so by an assertion
    return int(await client.coordinator_lookup(CoordinationType.GROUP, group))


def _member(described: Any) -> Member:
    _, client, _, _, assignment = described
    places = ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions() if assignment else []
    return Member(client=client, places=frozenset(Place(topic, number) for topic, number in places))


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for place in places:
        numbers[place.topic].append(place.partition)
    return list(numbers.items())


def _by_leader(client: Any, places: Iterable[Place]) -> dict[int, list[Place]]:
    led: defaultdict[int, list[Place]] = defaultdict(list)
    for place in places:
        leader = client.cluster.leader_for_partition(place)
        if leader in {None, -1}:
            raise StaleMetadata(place)
        led[leader].append(place)
    return led


def _time_of_first(fetched: bytes, offset: int) -> int | None:
    for batch in _batches(fetched, offset):
        if batch.timestamp_type == _STAMPED_BY_BROKER:
            return int(batch.max_timestamp)  # all records of the batch were written then: nothing has to be unpacked
        for record in batch:
            if record.offset >= offset:
                return int(record.timestamp)
    return None


def _offset_of_first(fetched: bytes, offset: int) -> int | None:
    return next((int(record.offset) for batch in _batches(fetched, offset) for record in batch if record.offset >= offset), None)


def _batches(fetched: bytes, offset: int) -> Iterator[Any]:
    """Yield the batches that may have a record at or above `offset`."""
    records = MemoryRecords(fetched)
    while (batch := records.next_batch()) is not None:
        if batch.next_offset > offset and not batch.is_control_batch:
            yield batch


def _check(code: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error
