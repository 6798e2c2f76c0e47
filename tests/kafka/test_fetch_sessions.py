"""infra.kafka.fetch_sessions: what a broker is told again is what has changed, and nothing is missed or read twice for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11

from infra.kafka.admin import create_topics
from infra.kafka.fetch_sessions import Session, SessionFetchRequest
from infra.kafka.producer import Producer, settle
from infra.settings import Settings
from schemas.topics import RAW, STATUS
from tests.kafka.own_broker import own_broker

A, B = ("a", 0), ("b", 1)


def test_a_session_names_what_has_changed() -> None:
    """First everything; then what is new, what was read on, and what is left out."""
    session = Session()
    assert session.next_request({A: (0, 9), B: (0, 9)}) == (0, 0, {A: (0, 9), B: (0, 9)}, [])
    session.answered(error_code=0, session_id=7, epoch=0)
    assert session.next_request({A: (5, 9), B: (0, 9)}) == (7, 1, {A: (5, 9)}, [])
    session.answered(error_code=0, session_id=7, epoch=1)
    assert session.next_request({A: (5, 9)}) == (7, 2, {}, [B])
    session.answered(error_code=0, session_id=7, epoch=2)
    assert session.next_request({A: (5, 9), B: (0, 9)}) == (7, 3, {B: (0, 9)}, [])


def test_a_session_without_an_answer_begins_again() -> None:
    """Nobody knows whether the broker had the request: everything is named again, in the place of the session before."""
    session = Session()
    session.next_request({A: (0, 9)})
    session.answered(error_code=0, session_id=7, epoch=0)
    session.next_request({A: (5, 9)})
    assert session.next_request({A: (5, 9)}) == (7, 0, {A: (5, 9)}, [])


@pytest.mark.parametrize("answer", [{"error_code": 70, "session_id": 0}, {"error_code": 0, "session_id": 0}])
def test_a_session_that_the_broker_does_not_keep_begins_again(answer: dict[str, int]) -> None:
    """It knows the session no more, or has no room for one: everything is named again."""
    session = Session()
    session.next_request({A: (0, 9)})
    session.answered(error_code=0, session_id=7, epoch=0)
    session.next_request({A: (5, 9)})
    session.answered(**answer, epoch=1)
    assert session.next_request({A: (5, 9)}) == (0, 0, {A: (5, 9)}, [])


@asynccontextmanager
async def reader(kafka: str, sources: Iterable[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
    """Read these partitions from their beginnings."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign(list(sources))
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(consumer: AIOKafkaConsumer, numbers: list[int], count: int) -> None:
    """Read until there are so many numbers."""
    async with asyncio.timeout(60):
        while len(numbers) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                numbers += [int(record.value) for record in records]


@pytest.mark.servers
async def test_reading_in_sessions_misses_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions that are paused, sought in, left and taken again: each record comes, and after the first requests few name everything."""
    await create_topics(settings)
    named: list[int] = []
    send = AIOKafkaClient.send

    async def noting(client: Any, node_id: Any, request: Any, **options: Any) -> Any:
        answer = await send(client, node_id, request, **options)
        if isinstance(request, SessionFetchRequest):
            named.append(request.named)
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", noting)
    producer = Producer(settings, client_id="test")
    await producer.start()
    sources = [TopicPartition(settings.topic_prefix + topic.name, number) for topic in (RAW, STATUS) for number in range(8)]
    numbers: list[int] = []

    async def write(first: int) -> None:
        for number in range(first, first + 50):
            await settle([producer.produce(topic.name, key=b"%d" % number, value=b"%d" % number) for topic in (RAW, STATUS)])

    async with reader(settings.kafka, sources) as consumer:
        _, _ = await asyncio.gather(write(0), read(consumer, numbers, 100))
        consumer.pause(*sources[:8])
        await asyncio.gather(write(50), read(consumer, numbers, 150))
        consumer.resume(*sources[:8])
        await read(consumer, numbers, 200)
        assert sorted(numbers) == sorted([*range(100)] * 2)
        assert named[0] == 16
        assert sum(named) / len(named) < 8
        await consumer.seek_to_beginning(*sources[8:])
        await read(consumer, numbers, 300)
        consumer.assign(sources[:8])
        await asyncio.gather(write(100), read(consumer, numbers, 450))
        consumer.assign(sources[8:])
        await read(consumer, numbers, 600)
    await producer.stop()
    assert sorted(numbers[200:300]) == [*range(100)]
    assert sorted(numbers[300:450]) == [*range(150)]
    assert sorted(numbers[450:]) == [*range(150)]


@pytest.mark.servers
@pytest.mark.timeout(120)
async def test_a_session_does_not_outlive_its_broker(tmp_path: Path) -> None:
    """A broker that was killed knows no session any more: the consumer goes on with a new one."""
    numbers: list[int] = []
    async with own_broker(tmp_path) as broker:
        own = Settings(kafka=broker.address, home=tmp_path / "home", partitions=4)
        await create_topics(own)
        producer = Producer(own, client_id="test")
        await producer.start()
        try:
            async with reader(broker.address, [TopicPartition(RAW.name, number) for number in range(4)]) as consumer:
                await settle([producer.produce(RAW.name, key=b"%d" % number, value=b"%d" % number) for number in range(20)])
                await read(consumer, numbers, 20)
                broker.kill()
                await broker.start()
                await settle([producer.produce(RAW.name, key=b"%d" % number, value=b"%d" % number) for number in range(20, 40)])
                await read(consumer, numbers, 40)
            assert sorted(numbers) == [*range(40)]
        finally:
            await producer.stop()


def test_a_request_of_a_session_is_taken_apart_by_everything() -> None:
    """What goes over the wire names what has changed; aiokafka finds in it all that it asked for: the answer may be about any of it."""
    session = Session()
    session.next_request({("a", 0): (0, 9), ("a", 1): (0, 9)})
    session.answered(error_code=0, session_id=7, epoch=0)
    request = SessionFetchRequest(FetchRequest(500, 1, 9, 0, [("a", [(0, 5, 9), (2, 0, 9)])]), session)
    built = request.build(FetchRequest_v11)
    assert (built.session_id, built.session_epoch) == (7, 1)
    assert built.topics == [("a", [(0, -1, 5, -1, 9), (2, -1, 0, -1, 9)])]
    assert built.forgotten_topics_data == [("a", [1])]
    assert request.topics == [("a", [(0, 5, 9), (2, 0, 9)])]
