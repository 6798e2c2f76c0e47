"""A sink's long lane on a real broker: what is left in the log comes in order, and rebalances and restarts lose nothing of it."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.admin import create_topics
from infra.kafka.consumer import LaneConsumer
from infra.kafka.producer import Producer, settle
from infra.kafka.record import Record
from infra.left_in_log import LANE_MAX
from infra.settings import Settings
from schemas.topics import RAW
from tests.kafka.test_consumer import Seen, fatal
from tests.reading import committed

pytestmark = pytest.mark.servers

COUNT = 10 * LANE_MAX
_LOUD, _EACH = 20, 25


class Gated:
    """Handles what it is given; of `loud` only when the gate is open."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.gate = asyncio.Event()

    async def handle(self, records: Sequence[Record]) -> None:
        if records[0].key.startswith(b"loud"):
            await self.gate.wait()
        self.seen.add(records)

    def consumer(self, settings: Settings, worker: str, *, held_max: Mapping[str, int] | None = None) -> LaneConsumer:
        own = settings.model_copy(update={"worker": worker})
        return LaneConsumer(own, group="group", topics=[RAW], handle=self.handle, on_fatal=fatal, left_in_log=[RAW.name], held_max=held_max)


async def write(settings: Settings, key: bytes, numbers: range) -> None:
    await write_all(settings, [(key, number) for number in numbers])


async def write_all(settings: Settings, records: Sequence[tuple[bytes, int]]) -> None:
    producer = Producer(settings, client_id="test")
    await producer.start()
    await settle([producer.produce(RAW.name, key=key, value=b"%d" % number, partition=1) for key, number in records])
    await producer.stop()


async def all_committed(settings: Settings) -> None:
    """Return once the group has committed all there is."""
    async with asyncio.timeout(20):
        while not await committed(settings, "group", RAW.name):  # noqa: ASYNC110  # the broker tells nobody of a commit
            await asyncio.sleep(0.1)


async def position(settings: Settings) -> int:
    """Return what the group has committed of the partition; 0 for nothing."""
    reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=f"{settings.topic_prefix}group", enable_auto_commit=False)
    await reader.start()
    try:
        return await reader.committed(TopicPartition(settings.topic_prefix + RAW.name, 1)) or 0
    finally:
        await reader.stop()


async def loud_and_quiet(settings: Settings) -> Gated:
    """Write much of one key and then a little of another; return what is to handle them."""
    await create_topics(settings)
    await write(settings, b"loud", range(COUNT))
    await write(settings, b"quiet", range(20))
    return Gated()


async def test_others_go_on_and_the_position_waits(settings: Settings) -> None:
    """A key with much to do fills its lane alone; what is committed stays below it until it is done, in order."""
    gated = await loud_and_quiet(settings)
    consumer = gated.consumer(settings, "one")
    await consumer.start()
    try:
        await gated.seen.at_least(20)
        assert gated.seen.by_key == {b"quiet": [*range(20)]}
        assert (consumer.in_flight, consumer.left_in_log) == (LANE_MAX, 1)
        gated.gate.set()
        await gated.seen.at_least(COUNT + 20)
        assert gated.seen.by_key[b"loud"] == [*range(COUNT)]
        await all_committed(settings)
        assert consumer.left_in_log == 0
    finally:
        await consumer.stop()


async def test_a_member_that_comes_and_one_that_goes(settings: Settings) -> None:
    """While something is left in the log and while it is being read: each record is handled, first times in order, and nothing over it
    is committed.
    """
    await create_topics(settings)
    await write(settings, b"loud", range(COUNT))
    gated = Gated()
    first, second = gated.consumer(settings, "one"), gated.consumer(settings, "two")
    await first.start()
    try:
        async with asyncio.timeout(30):
            while not first.left_in_log:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)
        await write(settings, b"quiet", range(20))
        await gated.seen.at_least(20)
        gated.gate.set()
        await gated.seen.at_least(COUNT // 3)
        gated.gate.clear()
        await second.start()
        await asyncio.wait_for(second.ready.wait(), 30)
        done = max(gated.seen.by_key[b"loud"]) + 1
        assert done < COUNT
        assert await position(settings) <= done
        gated.gate.set()
        await gated.seen.at_least(COUNT // 2)
        await first.stop()
        await write(settings, b"loud", range(COUNT, 2 * COUNT))
        async with asyncio.timeout(60):
            while len(gated.seen.first_times()[b"loud"]) < 2 * COUNT:  # noqa: ASYNC110  # repetitions count too
                await asyncio.sleep(0.05)
        await all_committed(settings)
    finally:
        await second.stop()
    assert gated.seen.first_times() == {b"loud": [*range(2 * COUNT)], b"quiet": [*range(20)]}


async def test_a_member_that_stops_in_the_middle_leaves_it_to_the_next(settings: Settings) -> None:
    """Stopped while its lane is full and others were done above it, it has committed nothing of that."""
    gated = await loud_and_quiet(settings)
    first = gated.consumer(settings, "one")
    await first.start()
    await gated.seen.at_least(20)
    await first.stop(timeout_s=0.1)
    assert await position(settings) == 0
    gated.gate.set()
    second = gated.consumer(settings, "two")
    await second.start()
    try:
        await gated.seen.at_least(COUNT + 40)
        await all_committed(settings)
    finally:
        await second.stop()
    assert gated.seen.by_key == {b"loud": [*range(COUNT)], b"quiet": [*range(20), *range(20)]}


async def test_many_that_are_long_leave_room_in_the_share_of_their_partition(settings: Settings) -> None:
    """Where 400 records of a partition may be held, twenty keys that write 25 each, all together, do not keep the others out."""
    await create_topics(settings)
    await write_all(settings, [(b"loud %d" % key, number) for number in range(_EACH) for key in range(_LOUD)])
    await write(settings, b"quiet", range(5))
    gated = Gated()
    consumer = gated.consumer(settings, "one", held_max={RAW.name: 400 * settings.partitions})
    await consumer.start()
    try:
        await gated.seen.at_least(5)
        assert gated.seen.by_key == {b"quiet": [*range(5)]}
        assert consumer.left_in_log == _LOUD
        gated.gate.set()
        await gated.seen.at_least(_EACH * _LOUD + 5)
        await all_committed(settings)
    finally:
        await consumer.stop()
    assert gated.seen.by_key == {b"quiet": [*range(5)], **{b"loud %d" % number: [*range(_EACH)] for number in range(_LOUD)}}
