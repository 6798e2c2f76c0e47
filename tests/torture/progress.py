"""How long after a fault a role works again, judged by what moves: committed offsets, sends at the platform, webhooks that get a 200."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.settings import Settings
from infra.simulator.books import Arrival
from schemas.groups import GROUPS as TOPIC_GROUPS
from schemas.ids import conversation_key, key_hash
from schemas.topics import INBOUND, Topic

GROUPS = ("streams", "sender", "history")
"""The consumer groups that must make progress."""

_ASK_S = 3.0
_PATIENCE_S = 60.0
_LOOK_AGAIN_S = 0.1
_LEFTOVER_S = 0.3

Place = tuple[str, int]


@dataclass(frozen=True)
class Position:
    """Where a group stands in one partition of one topic: the next offset to handle, and the one after the last record."""

    committed: int
    end: int


class Groups:
    """What the broker says of our consumer groups; KafkaException while it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._partitions = settings.partitions
        self._options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": settings.kafka,
            "log_level": 0,
            "reconnect.backoff.max.ms": 500,
        }
        self._client = AdminClient(self._options)
        self._readers: dict[str, Consumer] = {}

    async def positions(self, group: str) -> dict[Place, Position]:
        """Return where a group stands in each partition of its topics; -1 is committed where nothing was yet."""
        try:
            return await asyncio.to_thread(self._positions, group)
        except (KafkaException, TimeoutError):
            # Clients whose broker was away for long do not always find it again: the next question is a new client's.
            self._client = AdminClient(self._options)
            self._readers.pop(group, None)
            raise

    def _positions(self, group: str) -> dict[Place, Position]:
        places = [place for topic in TOPIC_GROUPS[group].topics for place in self._places(topic)]
        answer = self._answer(group, places)
        committed = {(each.topic, each.partition): max(-1, each.offset) for each in answer}
        found = {(place.topic, place.partition): end for place, end in self._ends(places).items()}
        return {place: Position(committed.get(place, -1), end) for place, end in found.items()}

    async def written(self, topic: Topic) -> dict[int, int]:
        """Return the offset after the last record of each partition of a topic."""
        return await asyncio.to_thread(lambda: {place.partition: end for place, end in self._ends(self._places(topic)).items()})

    def _places(self, topic: Topic) -> list[TopicPartition]:
        return [TopicPartition(topic.named(self._prefix), number) for number in range(self._partitions)]

    def _ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        ends = self._client.list_offsets({place: OffsetSpec.latest() for place in places}, request_timeout=_ASK_S)
        return {place: future.result(_ASK_S).offset for place, future in ends.items()}

    def _answer(self, group: str, places: list[TopicPartition]) -> list[TopicPartition]:
        """Return what a group has committed.

        A consumer asks that never joins: librdkafka's admin client crashes when it asks for offsets and the coordinator goes away
        (confluent-kafka-javascript #374).
        """
        reader = self._readers.pop(group, None) or Consumer(self._options | {"group.id": self._prefix + group})
        answer: list[TopicPartition] = reader.committed(places, timeout=_ASK_S)
        self._readers[group] = reader
        return answer

    async def lag(self) -> dict[str, int]:
        """Return how many records each group has before it, in the order of the flow: what one writes, the next one reads."""
        lags = {}
        for group in TOPIC_GROUPS:
            lags[group] = sum(at.end - max(0, at.committed) for at in (await self.positions(group)).values())
        return lags

    async def owned_by(self, group: str, workers: Collection[str]) -> set[int]:
        """Return the numbers of the partitions that these workers own; TimeoutError while the group is being balanced."""
        return await asyncio.to_thread(self._owned_by, group, workers)

    def _owned_by(self, group: str, workers: Collection[str]) -> set[int]:
        name = self._prefix + group
        described = self._client.describe_consumer_groups([name], request_timeout=_ASK_S)[name].result(_ASK_S)
        if described.state is not ConsumerGroupState.STABLE:
            raise TimeoutError(f"{name} is {described.state}")
        mine = {f"{worker}-{name}" for worker in workers} | {f"{worker}-{group}" for worker in workers}
        members = [member for member in described.members if member.group_instance_id in mine]
        return {place.partition for member in members for place in member.assignment.topic_partitions}


class Sends:
    """When each partition's last send came to the platform."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.last_at: dict[int, float] = {}

    def saw(self, arrival: Arrival) -> None:
        """Note an arrival; a watcher of the platform's books."""
        if arrival.outcome == "accepted":
            key = conversation_key(channel="wa", account=arrival.account, contact=arrival.to.removeprefix("+"))
            self.last_at[key_hash(key.encode()) % self._partitions] = arrival.at / 1000


class Recovery:
    """Waits until each partition that a fault took away is worked on again."""

    def __init__(self, groups: Groups, sends: Sends) -> None:
        self._groups, self._sends = groups, sends

    async def affected(self, groups: Iterable[str], workers: Collection[str]) -> dict[str, set[int]]:
        """Return which partitions of each group these workers own; asked before the fault. KafkaException if the broker stays away."""
        return {group: await self._owned(group, workers) for group in groups}

    async def _owned(self, group: str, workers: Collection[str]) -> set[int]:
        asked_at = time.monotonic()
        while True:
            try:
                return await self._groups.owned_by(group, workers)
            except (KafkaException, TimeoutError):
                if time.monotonic() - asked_at > _PATIENCE_S:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def progressed(
        self, affected: Mapping[str, set[int]], *, begun_at: Callable[[], float] = lambda: 0.0, timeout_s: float
    ) -> dict[str, float | None]:
        """Return for each group the seconds until all these partitions moved or had nothing to do; None where they did not in `timeout_s`.

        Moved is a committed offset above what it was when this was called. One conversation that waits for a status, or for a model that
        does not answer, holds up its partition's offset and nothing else: so also, for the sender, a send at the platform, and for streams
        a record of [inbound]. Of these count only what came after `begun_at()`, the time of the process's start, and a moment.
        """
        took_s = await asyncio.gather(*(self._moving(*each, begun_at, timeout_s) for each in affected.items()))
        return dict(zip(affected, took_s, strict=True))

    async def _moving(self, group: str, numbers: set[int], begun_at: Callable[[], float], timeout_s: float) -> float | None:
        asked_at = time.monotonic()
        waiting = set(numbers)
        first, leftover = None, None
        while waiting and time.monotonic() - asked_at < timeout_s:
            with contextlib.suppress(KafkaException, TimeoutError):  # the broker may be away itself
                now = await self._groups.positions(group)
                first = first or now
                since = begun_at() + _LEFTOVER_S
                waiting -= self._moved(group, first, now, waiting, since=since)
                if group == "streams":
                    written = await self._groups.written(INBOUND)
                    leftover = written if leftover is None or time.time() < since else leftover
                    waiting -= {number for number in waiting if written[number] > leftover[number]}
            if waiting:
                await asyncio.sleep(_LOOK_AGAIN_S)
        return None if waiting else time.monotonic() - asked_at

    def _moved(self, group: str, before: dict[Place, Position], now: dict[Place, Position], numbers: set[int], *, since: float) -> set[int]:
        moved = set()
        for number in numbers:
            places = [place for place in now if place[1] == number]
            committed = any(now[place].committed > before[place].committed for place in places)
            idle = all(now[place].committed >= now[place].end or now[place].end == 0 for place in places)
            sent = group == "sender" and since < self._sends.last_at.get(number, 0.0) <= time.time()
            if committed or idle or sent:
                moved.add(number)
        return moved
