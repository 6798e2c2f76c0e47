"""Three brokers that replicate each other, one killed and one frozen: nothing is lost, doubled or out of order, and nothing waits long."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from infra.kafka.admin import create_topics
from infra.kafka.consumer import LaneConsumer
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import RAW
from tests.kafka.own_broker import own_brokers
from tests.reading import committed, records

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

GROUP = "failover"
KEYS = [b"wa:1:%d" % number for number in range(24)]
EACH_S = 0.05
MORE = 30
"""How many records of every key must be written, and handled, in each state of the cluster."""

# A broker that is gone is missed after three seconds, as tests/kafka/replicated.py has them; then clients learn of it.
WITHOUT_S = 30.0


@dataclass
class Flow:
    """Writes numbered records of every key without end, and handles them."""

    producer: Producer
    acknowledged: int = 0
    handled: dict[bytes, list[int]] = field(default_factory=lambda: {key: [] for key in KEYS})
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)
    is_over: bool = False

    async def write(self) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            await asyncio.gather(*(self.producer.send(RAW.name, key=key, value=b"%d" % number) for key in KEYS), asyncio.sleep(EACH_S))
            self.acknowledged = number + 1

    async def handle(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self.handled[record.key].append(int(record.value))
        async with self.moved:
            self.moved.notify_all()

    async def end(self, writing: asyncio.Task[None]) -> None:
        """Write no more, and wait until all is handled."""
        self.is_over = True
        await writing
        async with asyncio.timeout(WITHOUT_S), self.moved:
            await self.moved.wait_for(lambda: all(each[-1] == self.acknowledged - 1 for each in self.handled.values()))

    async def more(self, writing: asyncio.Task[None], *, within_s: float) -> None:
        """Wait until so many more records of every key were handled."""
        target = self.acknowledged + MORE
        async with asyncio.timeout(within_s), self.moved:
            await self.moved.wait_for(lambda: writing.done() or all(each and each[-1] >= target for each in self.handled.values()))
        if writing.done():
            writing.result()


@asynccontextmanager
async def flowing(settings: Settings) -> AsyncIterator[Flow]:
    """Have records written and handled, by a producer and a member of a group."""
    failed = asyncio.get_running_loop().create_future()
    flow = Flow(Producer(settings, client_id="failover", delivery_timeout_s=60))
    await flow.producer.start()
    consumer = LaneConsumer(settings, group=GROUP, topics=[RAW], handle=flow.handle, on_fatal=failed.set_exception)
    await consumer.start()
    try:
        yield flow
    finally:
        await consumer.stop(10)
        await flow.producer.stop(30)
    if failed.done():
        failed.result()


async def in_sync(settings: Settings) -> None:
    """Wait until every partition is on all three brokers again: before that no other may die."""
    client = AdminClient({"bootstrap.servers": settings.kafka})
    async with asyncio.timeout(60):
        while True:
            topics = (await asyncio.to_thread(client.list_topics, timeout=30)).topics.values()
            if all(len(each.isrs) == 3 for topic in topics for each in topic.partitions.values()):
                return
            await asyncio.sleep(0.1)


async def all_committed(settings: Settings) -> None:
    """Wait until the group has committed all that is in the log."""
    async with asyncio.timeout(WITHOUT_S):
        while not await committed(settings, GROUP, RAW.name):  # noqa: ASYNC110  # a commit tells nobody
            await asyncio.sleep(0.1)


async def test_none_of_three_is_missed(tmp_path: Path) -> None:
    """Whoever leads, coordinates or controls: what goes on without it is not held up for long."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # shown for a failing test
    chance = random.Random(seed)
    async with own_brokers(tmp_path) as brokers:
        settings = Settings(kafka=",".join(broker.address for broker in brokers), home=tmp_path, topic_prefix="f-", _env_file=None)
        await create_topics(settings)
        await in_sync(settings)
        async with flowing(settings) as flow:
            writing = asyncio.create_task(flow.write())
            await flow.more(writing, within_s=60)
            killed, frozen, _ = chance.sample(brokers, 3)
            killed.kill()
            await flow.more(writing, within_s=WITHOUT_S)
            await killed.start()
            await in_sync(settings)
            frozen.pause()
            await flow.more(writing, within_s=WITHOUT_S)
            frozen.go_on()
            await in_sync(settings)
            await flow.end(writing)
            await all_committed(settings)  # before the end: whoever leaves while its group settles again commits nothing more
        found = await records(settings, RAW.name)
        for key in KEYS:
            written = [int(record.value) for record in found if record.key == key]
            assert written == [*range(flow.acknowledged)]
            assert list(dict.fromkeys(flow.handled[key])) == written  # some twice: what is not committed yet is repeated
