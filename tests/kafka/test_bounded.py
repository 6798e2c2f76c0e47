"""Stretches of the log on a real broker: bounded, in order, stopped and failed cleanly; what is due when, without one."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest

from infra.kafka.admin import KafkaUnreachableError, TopicsError, create_topics
from infra.kafka.bounded import GoneError, Stretch, _taken, bounded_reader
from infra.kafka.group_log import GroupLog
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from tests.topic_settings import forget_before

CONVERSATIONS = 12
EACH = 25


def record(partition: int, offset: int, at: int) -> Record:
    return Record("raw", partition, offset, b"k", b"v", [], at)


def test_what_is_due_comes_in_the_order_of_its_time_and_of_its_partition() -> None:
    """Of several partitions the earlier record comes first; one stamped too early does not overtake the one before it."""
    held: Any = {0: deque([record(0, 0, 5), record(0, 1, 3), record(0, 2, 9)]), 1: deque([record(1, 0, 4), record(1, 1, 6)])}
    found = _taken(held, lambda each: float(each.timestamp_ms), 8.0)
    assert [(each.partition, each.offset) for each in found] == [(1, 0), (0, 0), (0, 1), (1, 1)]
    assert [each.offset for each in held[0]] == [2]
    assert 1 not in held


async def test_nobody_answers() -> None:
    """Without a broker it is one sentence."""
    with pytest.raises(KafkaUnreachableError):
        async with bounded_reader(Settings(kafka="127.0.0.1:1", _env_file=None), group="nobody"):
            pass


async def filled(settings: Settings) -> None:
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    for number in range(EACH):
        for each in range(CONVERSATIONS):
            producer.produce("raw", key=f"wa:1:{each}".encode(), value=str(number).encode())
    await producer.stop()


@pytest.mark.servers
async def test_exactly_the_stretch_is_handled_in_order(settings: Settings) -> None:
    """Every record from start to end, each conversation's in order, nothing that comes later, and the group shows how far it is."""
    await filled(settings)
    seen: dict[bytes, list[int]] = defaultdict(list)
    done = 0

    async def handle(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        for each in records:
            seen[each.key].append(int(each.value))

    def advanced(count: int) -> None:
        nonlocal done
        done += count

    async with bounded_reader(settings, group="replay-test") as reader:
        with pytest.raises(TopicsError):
            await reader.ends("no-such-topic")
        ends = await reader.ends("raw")
        assert await reader.since("raw", 1) == await reader.beginnings("raw") == dict.fromkeys(ends, 0)
        assert await reader.since("raw", 4_000_000_000_000) == ends
        stretches = [Stretch(topic="raw", partition=number, start=0, end=end) for number, end in ends.items()]
        await filled(settings)
        assert await reader.run(stretches, handle, limit=64, batch_max=4, advanced=advanced)
        assert seen == {f"wa:1:{each}".encode(): list(range(EACH)) for each in range(CONVERSATIONS)}
        assert done == CONVERSATIONS * EACH
    shown = GroupLog(settings, group="replay-test")
    assert {number: await shown.committed("raw", number) for number in ends} == ends
    await shown.close()


@pytest.mark.servers
async def test_asking_where_things_stand_fetches_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is fetched until one is read, and no fetch is kept open over what is not there: questions would wait behind it."""
    await filled(settings)
    waits_ms = []
    async with bounded_reader(settings, group="replay-test") as reader:
        client = reader._consumer._client
        send = client.send

        async def watched(node: int, request: Any, **options: Any) -> Any:
            if isinstance(request, FetchRequest):
                waits_ms.append(request._max_wait_ms)
            return await send(node, request, **options)

        monkeypatch.setattr(client, "send", watched)
        for topic in ("raw", "sent", "raw"):
            ends = await reader.ends(topic)
            await reader.since(topic, 1)
            await reader.beginnings(topic)
        assert waits_ms == []
        stretches = [Stretch(topic="raw", partition=number, start=0, end=end) for number, end in ends.items()]
        assert sum([len(records) async for records in reader.read(stretches)]) == CONVERSATIONS * EACH
        assert 0 < max(waits_ms) < 50


@pytest.mark.servers
async def test_it_stops_when_told_and_fails_with_what_failed(settings: Settings) -> None:
    """Told to stop it ends what is under way and says that it is not through; an error of the handler is the caller's."""
    await filled(settings)
    stopping = asyncio.Event()
    under_way: set[bytes] = set()

    async def stop_soon(records: Sequence[Record]) -> None:
        under_way.add(records[0].key)
        stopping.set()
        await asyncio.sleep(0.05)
        under_way.discard(records[0].key)

    async def fail(_: Sequence[Record]) -> None:
        raise ZeroDivisionError

    async with bounded_reader(settings, group="replay-test") as reader:
        stretches = [Stretch(topic="raw", partition=number, start=0, end=end) for number, end in (await reader.ends("raw")).items()]
        assert not await reader.run(stretches, stop_soon, limit=1_000, stopping=stopping)
        assert under_way == set()
        with pytest.raises(ZeroDivisionError):
            await reader.run(stretches, fail, limit=8)
        never = [Stretch(topic="raw", partition=0, start=5, end=5)]
        assert await reader.run(never, fail, limit=8)


@pytest.mark.servers
@pytest.mark.parametrize("kept", [7, 0])
async def test_what_was_deleted_meanwhile_is_told(settings: Settings, kept: int) -> None:
    """By default it is an error that says what is missing; who passes it over is told of it, also where nothing is left."""
    await filled(settings)
    async with bounded_reader(settings, group="replay-test") as reader:
        ends = await reader.ends("raw")
        number, end = max(ends.items(), key=lambda each: each[1])
        stretch = Stretch(topic="raw", partition=number, start=2, end=end)
        await forget_before(settings, "raw", number, end - kept)
        with pytest.raises(GoneError, match=rf"^raw/{number} has lost its offsets 2 to {end - kept - 1}, and no archive has them: .*\.$"):
            await anext(reader.read([stretch]))
        gone: list[Stretch] = []
        for told in (gone.append, None):
            found = [each.offset async for records in reader.read([stretch], gone=told) for each in records]
            assert found == [*range(end - kept, end)]
        assert gone == [Stretch(topic="raw", partition=number, start=2, end=end - kept)]
