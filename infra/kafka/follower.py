"""Tells who waits for it that records of a key were written: topics are followed from their end, for as long as anybody waits.

Only what somebody waits for is read: of a conversation's topics the partitions of its keys.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.connection import aiokafka_options
from infra.kafka.whole import whole
from infra.settings import Settings
from schemas.ids import key_hash
from schemas.topics import Topic

log = structlog.get_logger()

_RETRY_S = 2.0
_LINGER_S = 30.0
_POLL_MS = 500
_IDLE_S = 0.1
_FETCH_BYTES = 256 << 10
_RECORDS_MAX = 5_000


class Watch:
    """Somebody who waits: `written` is set when a record of one of the topics has one of the keys (None: any)."""

    def __init__(self, topics: Collection[Topic], keys: Collection[bytes] | None) -> None:
        self.topics = frozenset(topic.name for topic in topics)
        self.keys = None if keys is None else frozenset(keys)
        self.written = asyncio.Event()


def places_of(watches: Iterable[Watch], counts: Mapping[str, int]) -> set[tuple[str, int]]:
    """Return the topics and partitions in which there can be what is waited for; `counts` says how many each topic has. Pure."""
    return {
        (topic, number)
        for watch in watches
        for topic in watch.topics
        if (count := counts.get(topic, 0))
        for number in (range(count) if watch.keys is None else {key_hash(key) % count for key in watch.keys})
    }


class Follower:
    """Follows topics in a task of its own while there are watches, and for half a minute longer; belongs to one event loop.

    While no broker answers nobody is told anything: watches are a reason to look sooner, not the only one to look.
    """

    def __init__(self, settings: Settings, topics: Collection[Topic]) -> None:
        self._settings = settings
        self._names = {topic.named(settings.topic_prefix): topic.name for topic in topics}
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, topics: Collection[Topic], keys: Collection[bytes] | None = None) -> Iterator[Watch]:
        """Yield a watch; the task runs from now on if it did not."""
        watch = Watch(topics, keys)
        self._watches.add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="follower")
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while self._watches:
            consumer = AIOKafkaConsumer(
                **aiokafka_options(self._settings),
                client_id=f"{self._settings.worker}-follower",
                enable_auto_commit=False,
                auto_offset_reset="latest",
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            try:
                await whole(consumer.start())
                await self._tell(consumer)
            except KafkaError as error:
                log.info("what is written cannot be followed", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await whole(consumer.stop())

    async def _tell(self, consumer: Any) -> None:
        """Tell watches of what is written, until there were none for a while."""
        # Asking for one partition of each is what makes the client know how many there are.
        first = [TopicPartition(name, 0) for name in self._names]
        consumer.assign(first)
        await consumer.end_offsets(first)
        counts = {topic: len(consumer.partitions_for_topic(name) or ()) for name, topic in self._names.items()}
        names = {topic: name for name, topic in self._names.items()}
        followed: set[TopicPartition] = set()
        loop = asyncio.get_running_loop()
        needed_at = loop.time()
        while loop.time() - needed_at < _LINGER_S:
            wanted = {TopicPartition(names[topic], number) for topic, number in places_of(self._watches, counts)}
            if not wanted:
                # Nobody is here: who comes next begins at the end.
                followed = set()
                await asyncio.sleep(_IDLE_S)
                continue
            needed_at = loop.time()
            if wanted != followed:
                await _assign(consumer, followed, wanted)
                followed = wanted
                # Whatever was written while the ends were looked up.
                for watch in self._watches:
                    watch.written.set()
            batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
            for place, records in batches.items():
                self._note(self._names[place.topic], {record.key or b"" for record in records})

    def _note(self, topic: str, keys: set[bytes]) -> None:
        for watch in self._watches:
            if topic in watch.topics and (watch.keys is None or not watch.keys.isdisjoint(keys)):
                watch.written.set()


async def _assign(consumer: Any, followed: set[TopicPartition], wanted: set[TopicPartition]) -> None:
    """Go on where one is in what was followed already, and at the end of all else."""
    kept = {place: await consumer.position(place) for place in followed & wanted}
    consumer.assign(list(wanted))
    for place, offset in kept.items():
        consumer.seek(place, offset)
    new = wanted - followed
    if new:
        await consumer.seek_to_end(*new)
