"""History written again from the log, on real servers: row by row what live traffic wrote, also in place and while it goes on."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.cassandra.rows import PARTITION_KEYS
from infra.cassandra.session import Cassandra
from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from schemas.topics import INBOUND
from sinks import rebuild_history
from sinks.base import Context
from sinks.events_to_history import History
from sinks.rebuild_history import rebuild
from sinks.runner import SinkHost
from tests.history_events import NOON_MS, Talk
from tests.reading import committed
from tests.sinks.test_events_to_history import a_whole_talk

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

TABLES = sorted(table for table in PARTITION_KEYS if not table.startswith("processing_error"))


@asynccontextmanager
async def live_history(settings: Settings) -> AsyncIterator[Producer]:
    """Run the history sink as the runner does; yields a producer to write its records with."""
    producer = Producer(settings, client_id="test")
    await producer.start()
    failed: list[BaseException] = []
    context = Context(settings=settings, producer=producer, config=ConfigTables(settings), clock=SystemClock())
    host = SinkHost(History(settings), context, on_fatal=failed.append, patience=Patience())
    await host.start()
    try:
        yield producer
    finally:
        await host.stop()
        await producer.stop()
    assert failed == []


async def produce(producer: Producer, records: list[Record]) -> None:
    await asyncio.gather(*(producer.send(each.topic, key=each.key, value=each.value) for each in records))


async def written(settings: Settings) -> None:
    """Wait until live history has written all that is in the log."""
    async with asyncio.timeout(120):
        for topic in History.topics:
            while not await committed(settings, "history", topic.name):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.1)


async def rows(cassandra: Cassandra, keyspace: str) -> dict[str, list[str]]:
    """Return every row of every table of history."""
    found = {}
    for table in TABLES:
        listed: list[dict[str, Any]] = await cassandra.execute(f"SELECT * FROM {keyspace}.{table}")  # noqa: S608  # names of our own
        found[table] = sorted(str(sorted(row.items())) for row in listed)
    return found


async def test_rebuilt_rows_are_those_of_live_traffic(settings: Settings) -> None:
    """A second keyspace, and one that lost its messages, get row by row what live history wrote, and disturb nothing meanwhile."""
    await create_topics(settings)
    second = settings.model_copy(update={"keyspace": f"second{uuid.uuid4().hex[:8]}"})
    talks = [Talk(contact=f"1650555{number:04}") for number in range(30)]
    steps: list[tuple[str, int, int]] = []
    async with live_history(settings) as producer:
        for talk in talks[:20]:
            await produce(producer, a_whole_talk(talk))
        await produce(producer, [talks[0].linked(talks[1], at_ms=NOON_MS)])
        unknown = talks[2].cause("wamid.lost")
        sent = talks[2].sent(unknown, "lost", created_ms=NOON_MS, platform_id="", outcome="unknown")
        await produce(producer, [sent, talks[2].outbound(unknown, "lost", at_ms=NOON_MS)])
        going_on = asyncio.create_task(produce(producer, [record for talk in talks[20:] for record in a_whole_talk(talk)]))
        first = await rebuild(second, progress=lambda *step: steps.append(step))
        await going_on
        assert first.is_whole
        assert first.refused == 0
        assert steps[-1] == (f"writing {second.keyspace}", first.total, first.total)
        await produce(producer, [Record(INBOUND.name, 0, 0, talks[0].key.encode(), b"{", [], 0)])
        await written(settings)
        whole = await rebuild(second, progress=lambda *_: None)
        assert (whole.total > first.total, whole.refused) == (True, 1)
        cassandra = await Cassandra.connect(settings)
        try:
            was = await rows(cassandra, settings.keyspace)
            assert {table for table, listed in was.items() if listed} >= {"messages", "sends", "statuses", "aliases", "unknown_sends"}
            assert len(was["messages"]) > 200
            assert await rows(cassandra, second.keyspace) == was
            await cassandra.execute(f"TRUNCATE {settings.keyspace}.messages", timeout_s=60)
            await rebuild(settings, progress=lambda *_: None)
            assert await rows(cassandra, settings.keyspace) == was
        finally:
            await cassandra.close()


async def test_it_ends_early_when_it_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it says how far it came, and has left nothing behind that a second run would not write."""
    # What is inside when it is told is written still: with room for all of it inside, there might be nothing left to end early of.
    monkeypatch.setattr(rebuild_history, "_INSIDE_MAX", 20)
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    for number in range(20):
        await produce(producer, a_whole_talk(Talk(contact=f"1650556{number:04}")))
    await producer.stop()
    stopping = asyncio.Event()
    done = await rebuild(settings, progress=lambda _, done, __: stopping.set() if done else None, stopping=stopping)
    assert not done.is_whole
    assert 0 < done.records < done.total
