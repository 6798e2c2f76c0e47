"""infra.kafka.browser on a real broker: from any place, in the order of time, up to now or live, and in little memory."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from infra.errors import NotFoundError
from infra.kafka.admin import KafkaUnreachableError, create_topics
from infra.kafka.browser import browser
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.kafka.selection import Selection, Start
from infra.settings import Settings
from schemas.ids import key_hash
from schemas.topics import DEAD_LETTERS, INBOUND, RAW, SENT, TENANTS
from tests.topic_settings import forget_before

ENDS, BEGINNING = Start(kind="end"), Start(kind="beginning")
KEY = "wa:1:16505550001"


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    await create_topics(settings)
    producer = Producer(settings, client_id="test", linger_ms=0)
    await producer.start()
    yield producer
    await producer.stop()


async def read(settings: Settings, selection: Selection, start: Start) -> list[Record]:
    """Return what is there from a place on."""
    async with browser(settings, selection) as reader:
        return [record async for record in reader.read(await reader.places(start))]


def values(records: list[Record]) -> list[int]:
    return [int(record.value) for record in records]


async def write(producer: Producer, topic: str, numbers: range, *, key: str = "", partitions: int = 8) -> None:
    """Write numbers one after the other over the partitions, each some milliseconds after the one before it."""
    for number in numbers:
        own = key or f"wa:1:{number % 5}"
        partition = key_hash(own.encode()) % 8 if key else number % partitions
        await producer.send(topic, key=own.encode(), value=b"%d" % number, headers=[("n", b"%d" % number)], partition=partition)
        await asyncio.sleep(0.002)


@pytest.mark.servers
async def test_any_place_of_several_topics(settings: Settings, producer: Producer) -> None:
    """In the order of time over partitions and topics; from an offset, a time, the end, the last ones; of a key or partition."""
    both = Selection(topics=(INBOUND, SENT))
    assert await read(settings, both, BEGINNING) == []
    await write(producer, INBOUND.name, range(40))
    await write(producer, SENT.name, range(40, 60))
    await write(producer, INBOUND.name, range(60, 64), key=KEY)
    everything = await read(settings, both, BEGINNING)
    assert values(everything) == list(range(64))
    first = everything[0]
    assert (first.topic, first.partition, first.offset, first.key, first.headers) == ("inbound", 0, 0, b"wa:1:0", [("n", b"0")])
    for count in (1, 7, 64, 1000):
        assert values(await read(settings, both, Start(kind="last", number=count))) == list(range(64))[-count:]
    middle = everything[30].timestamp_ms
    expected = [int(record.value) for record in everything if record.timestamp_ms >= middle]
    assert values(await read(settings, both, Start(kind="time", number=middle))) == expected
    assert await read(settings, both, Start(kind="time", number=everything[-1].timestamp_ms + 60_000)) == []
    assert await read(settings, both, ENDS) == []
    in_inbound = Selection(topics=(INBOUND,))
    assert values(await read(settings, in_inbound, Start(kind="offset", number=4))) == [*range(32, 40), *range(60, 64)]
    assert await read(settings, in_inbound, Start(kind="offset", number=1 << 62)) == []
    assert values(await read(settings, Selection(topics=(INBOUND,), partition=2), BEGINNING))[:5] == [2, 10, 18, 26, 34]
    assert values(await read(settings, Selection(topics=(INBOUND, SENT), key=KEY), BEGINNING)) == [60, 61, 62, 63]
    assert values(await read(settings, Selection(topics=(INBOUND, SENT), key="16505550001"), Start(kind="last", number=3))) == [61, 62, 63]


@pytest.mark.servers
async def test_the_last_ones_of_a_rare_key(settings: Settings, producer: Producer) -> None:
    """They are found however much of others came after them, and reading can go on where it stopped."""
    await write(producer, INBOUND.name, range(3), key=KEY)
    partition = key_hash(KEY.encode()) % 8
    others = [producer.produce(INBOUND.name, key=b"wa:1:2", value=b"%d" % number, partition=partition) for number in range(3, 1_500)]
    await asyncio.gather(*others)
    async with browser(settings, Selection(topics=(INBOUND,), key=KEY)) as reader:
        places = await reader.places(Start(kind="last", number=2))
        assert places == {("inbound", partition): 1}
        async with aclosing(reader.read(places)) as records:
            assert [int(record.value) async for record in records] == [1, 2]
        assert places == {("inbound", partition): 1_500}
        await write(producer, INBOUND.name, range(1_500, 1_501), key=KEY)
        assert [int(record.value) async for record in reader.read(places)] == [1_500]


@pytest.mark.servers
async def test_live(settings: Settings, producer: Producer) -> None:
    """What was there comes first, then what comes, at once; whoever goes on from `places` misses nothing and sees nothing twice."""
    await write(producer, INBOUND.name, range(10))
    async with browser(settings, Selection(topics=(INBOUND,))) as reader:
        places = await reader.places(Start(kind="last", number=4))
        seen = []
        async with aclosing(reader.follow(places)) as records:
            async for record in records:
                seen.append(int(record.value))
                if seen[-1] >= 9:
                    started = asyncio.get_running_loop().time()
                    await write(producer, INBOUND.name, range(seen[-1] + 1, seen[-1] + 2))
                if seen[-1] == 12:
                    break
        assert asyncio.get_running_loop().time() - started < 1
    assert seen == list(range(6, 13))
    async with browser(settings, Selection(topics=(INBOUND,))) as reader:
        assert [int(record.value) async for record in reader.read(places)] == [13]


@pytest.mark.servers
async def test_large_records_do_not_fill_the_memory(settings: Settings, producer: Producer) -> None:
    """Of 24 records of 5 MiB each partition's next ones are held, not all."""
    value = b"x" * ((5 << 20) - 1000)
    for number in range(24):
        await producer.send(RAW.name, key=b"k", value=value, partition=number % 2)
    tracemalloc.start()
    try:
        async with browser(settings, Selection(topics=(RAW,))) as reader:
            sizes = [len(record.value) async for record in reader.read(await reader.places(BEGINNING))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [len(value)] * 24
    assert peak < 60 << 20, f"{peak >> 20} MiB"


@pytest.mark.servers
async def test_what_was_deleted(settings: Settings, producer: Producer) -> None:
    """What retention took away is passed over; in compacted topics a deletion is a record without a value."""
    await write(producer, SENT.name, range(6), partitions=1)
    await forget_before(settings, SENT.name, 0, 3)
    for start in (BEGINNING, Start(kind="offset", number=1), Start(kind="last", number=10), Start(kind="time", number=0)):
        assert values(await read(settings, Selection(topics=(SENT,)), start)) == [3, 4, 5]
    for value in (b"{}", None):
        await producer.send(TENANTS.name, key=b"a", value=value)
    assert [record.value for record in await read(settings, Selection(topics=(TENANTS,)), BEGINNING)] == [b"{}", b""]


@pytest.mark.servers
async def test_what_is_not_there(settings: Settings) -> None:
    """A topic that was never made is said to be missing, and is not made by looking."""
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"Topic dead-letters is not there: run `ottla topics create`\."):
            await read(settings, Selection(topics=(DEAD_LETTERS,)), BEGINNING)


async def test_a_broker_that_is_away_is_said_to_be() -> None:
    """Nobody waits for ever."""
    with pytest.raises(KafkaUnreachableError):
        await read(Settings(kafka="127.0.0.1:1", _env_file=None), Selection(topics=(RAW,)), BEGINNING)
