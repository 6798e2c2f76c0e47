"""How a sink is hosted: started, joined to its group, stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.errors import OttlaError
from infra.kafka.admin import create_topics
from infra.kafka.consumer import APART_MAX, Taken
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from schemas.topics import DEAD_LETTERS, INBOUND, Topic
from sinks.base import Claims, Context
from sinks.runner import SinkHost, run_sinks
from tests.installation import free_port
from tests.reading import committed, records, wait_for_records

pytestmark = pytest.mark.servers


class _SlowSink:
    """A sink that takes its time to start, and writes down what it was asked."""

    group = "history"
    topics: Sequence[Topic] = (INBOUND,)
    batch_max = 10
    shares_lanes = False
    held_max: Mapping[str, int] = {}
    left_in_log: Collection[str] = ()
    unhurried: Collection[str] = ()

    def __init__(self) -> None:
        self.may_start, self.handled = asyncio.Event(), asyncio.Event()
        self.error: OttlaError | None = None
        self.asked: list[str] = []

    async def start(self) -> None:
        await self.may_start.wait()
        if self.error is not None:
            raise self.error
        self.asked.append("started")

    def hosted(self, claims: Claims) -> None:
        pass

    def lane(self, record: Record) -> Hashable:
        return record.key

    async def taken(self, partitions: Sequence[Taken]) -> None:
        assert partitions
        self.asked.append("taken")

    def take_at_once(self, record: Record) -> bool:
        assert record
        return False

    async def handle(self, records: Sequence[Record]) -> None:
        assert records
        self.asked.append("handled")
        self.handled.set()

    async def stop(self) -> None:
        self.asked.append("stopped")


async def _joined(host: SinkHost) -> None:
    async with asyncio.timeout(30):
        consumer = host._consumer
        while consumer._consumer is None or not consumer._consumer.assignment():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _host(
    settings: Settings, sink: _SlowSink, failed: list[BaseException], patience: Patience
) -> AsyncIterator[tuple[SinkHost, Producer]]:
    """Make the host of a sink, not started, and a producer for what it is to handle; stop both."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    context = Context(settings=settings, producer=producer, config=ConfigTables(settings), clock=SystemClock())
    host = SinkHost(sink, context, on_fatal=failed.append, patience=patience)
    try:
        yield host, producer
    finally:
        await host.stop()
        await producer.stop()


@asynccontextmanager
async def _hosted(settings: Settings, sink: _SlowSink, failed: list[BaseException]) -> AsyncIterator[tuple[SinkHost, asyncio.Task[None]]]:
    """Host a sink with a record to handle; give the host and its start, under way until the sink may start, once the group is joined."""
    async with _host(settings, sink, failed, Patience()) as (host, producer):
        starting = asyncio.create_task(host.start())
        await producer.send(INBOUND.name, key=b"wa:1:2", value=b"{}")
        await _joined(host)
        yield host, starting


async def test_a_group_is_joined_while_the_sink_starts(settings: Settings) -> None:
    """So a restart does not take both times one after the other; nothing is handled before the sink has started."""
    sink, failed = _SlowSink(), list[BaseException]()
    async with _hosted(settings, sink, failed) as (host, starting):
        assert sink.asked == []
        assert not host.ready
        sink.may_start.set()
        await starting
        async with asyncio.timeout(30):
            await sink.handled.wait()
    assert sink.asked == ["started", "taken", "handled", "stopped"]
    assert failed == []


async def test_a_sink_that_cannot_start_handles_nothing(settings: Settings) -> None:
    """What keeps it from starting is raised, also when partitions were assigned by then."""
    sink = _SlowSink()
    sink.error = OttlaError("The tables are another version's.")
    async with _hosted(settings, sink, []) as (_, starting):
        sink.may_start.set()
        with pytest.raises(OttlaError, match="another version"):
            await starting
    assert sink.asked == ["stopped"]


class _OneLane(_SlowSink):
    """A sink with one lane for all, which refuses `bad`; taken singly, that waits until it may fail for good."""

    shares_lanes = True

    def __init__(self) -> None:
        super().__init__()
        self.may_start.set()
        self.may_fail = asyncio.Event()
        self.done: list[bytes] = []
        self.waiting = 0
        self._tries = 0

    def lane(self, record: Record) -> Hashable:
        assert record
        return "all"

    async def handle(self, records: Sequence[Record]) -> None:
        if any(record.value == b"bad" for record in records):
            self._tries += 1
            if self._tries > 1 and len(records) == 1:
                self.waiting += 1
                await self.may_fail.wait()
            raise ValueError("refused")
        self.done += [record.value for record in records]
        self.handled.set()


@pytest.mark.parametrize("first", [(b"one", b"bad", b"two"), (b"bad",)])
async def test_a_record_that_fails_holds_up_its_own_conversation_alone(settings: Settings, first: tuple[bytes, ...]) -> None:
    """Where a lane has many conversations no other's record waits for the retries of one, come alone or with others."""
    sink, failed = _OneLane(), list[BaseException]()
    wanted = {*first, b"three"} - {b"bad"}
    async with _host(settings, sink, failed, Patience(first_delay_s=0.0, tries=2)) as (host, producer):
        for value in (*first, b"three"):
            await producer.send(INBOUND.name, key=value, value=value, partition=0)
            if value == first[-1]:
                await host.start()
        async with asyncio.timeout(30):
            while wanted - set(sink.done):
                sink.handled.clear()
                await sink.handled.wait()
        assert await records(settings, DEAD_LETTERS.name) == []  # it is still being tried
        assert not await committed(settings, sink.group, INBOUND.name)
        sink.may_fail.set()
        (letter,) = await wait_for_records(settings, DEAD_LETTERS.name, bool)
    assert (letter.key, letter.value) == (b"bad", b"bad")
    assert sorted(sink.done) == sorted(wanted)
    assert failed == []
    assert await committed(settings, sink.group, INBOUND.name)


async def test_where_all_fail_their_lane_waits(settings: Settings) -> None:
    """What fails by the hundred is nothing of single conversations: only so many are tried at once, and none is passed over."""
    sink, failed = _OneLane(), list[BaseException]()
    async with _host(settings, sink, failed, Patience(first_delay_s=0.0, tries=1)) as (host, producer):
        for number in range(100):
            await producer.send(INBOUND.name, key=b"%d" % number, value=b"bad", partition=0)
        await host.start()
        async with asyncio.timeout(30):
            while sink.waiting <= APART_MAX:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)
        assert sink.waiting <= APART_MAX + sink.batch_max
        sink.may_fail.set()
        letters = await wait_for_records(settings, DEAD_LETTERS.name, lambda found: len(found) >= 100)
    assert len({letter.key for letter in letters}) == 100
    assert failed == []


async def test_who_is_told_to_stop_waits_for_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that lets nobody in, as while a member of it is frozen, holds up no end."""
    waiting = asyncio.Event()

    async def wait_for_ever(_: SinkHost) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def nothing(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(SinkHost, "start", wait_for_ever)
    monkeypatch.setattr(ConfigTables, "start", nothing)
    settings = Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", metrics_port=free_port(), _env_file=None)
    running = asyncio.create_task(run_sinks(settings, ["dead-letters"]))
    await asyncio.wait_for(waiting.wait(), 30)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 15)
