"""infra.kafka.corrections on a real broker: what was committed is not forgotten while it starts again, and consumers can be stopped."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupLoadInProgressError, KafkaConnectionError, KafkaError, RebalanceInProgressError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata

from infra.kafka import corrections
from infra.kafka.admin import create_topics  # whose package corrects the client
from infra.servers import kafka
from infra.settings import Settings
from schemas.topics import RAW
from tests.kafka.own_broker import OwnBroker, own_broker

_PARTITIONS, _COMMITS, _RESTARTS = 100, 60, 2
_ANSWERS = 100
_ASKED = 3
_REFUSED = 2


@contextlib.asynccontextmanager
async def committing(broker: OwnBroker) -> AsyncIterator[tuple[Any, list[TopicPartition]]]:
    """Yield a consumer that may commit for a group, and the partitions of a new topic that are assigned to it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    await admin.create_topics([NewTopic("many", _PARTITIONS, 1)])
    await admin.close()
    member = AIOKafkaConsumer(bootstrap_servers=broker.address, group_id="group", enable_auto_commit=False)
    await member.start()
    places = [TopicPartition("many", number) for number in range(_PARTITIONS)]
    member.assign(places)
    try:
        while await member.committed(places[-1]) is None:
            with contextlib.suppress(KafkaError):  # a new topic is not known everywhere at once
                await member.commit(dict.fromkeys(places, 42))
        yield member, places
    finally:
        await member.stop()


@pytest.mark.servers
@pytest.mark.timeout(200)
async def test_a_broker_that_loads_its_groups_has_not_forgotten_them(tmp_path: Path) -> None:
    """Asked without a pause over kills of the broker, it says what was committed or nothing at all: never that nothing was."""
    async with own_broker(tmp_path) as broker, committing(broker) as (member, places):
        for _ in range(_COMMITS):  # enough that reading them again takes a moment
            await member.commit(dict.fromkeys(places, 42))
        for _ in range(_RESTARTS):
            broker.kill()
            starting = asyncio.create_task(broker.start())
            answers: list[int | None] = []
            while len(answers) < _ANSWERS:
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(5):
                        answers.append(await member.committed(places[7]))
            assert set(answers) == {42}
            await starting


def segments(folder: Path) -> list[int]:
    """Return how many bytes each segment of [__consumer_offsets] has."""
    return [size for each in folder.glob("kafka/data/__consumer_offsets-*/*.log") if (size := each.stat().st_size)]


@pytest.mark.servers
@pytest.mark.timeout(100)
async def test_what_a_coordinator_reads_is_compacted_early(tmp_path: Path) -> None:
    """Only full segments are compacted: those of committed offsets are small, so that a broker that comes back reads little."""
    async with own_broker(tmp_path) as broker:
        async with committing(broker) as (member, places):
            for _ in range(5 * _COMMITS):
                await member.commit(dict.fromkeys(places, OffsetAndMetadata(42, "as long as that of a few claims")))
        sizes = segments(tmp_path)
    assert sum(sizes) > 2 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.servers
async def test_stopping_while_the_broker_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that waits to be tried again does not cancel whoever stops the consumer, and its connections are closed."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, retry_backoff_ms=5_000)
    await consumer.start()
    source = TopicPartition(RAW.named(settings.topic_prefix), 0)
    consumer.assign([source])
    consumer.seek(source, 0)
    failed = asyncio.Event()

    async def away(*_: Any, **__: Any) -> None:
        failed.set()
        raise KafkaConnectionError

    monkeypatch.setattr(consumer._client, "send", away)
    await asyncio.wait_for(failed.wait(), 10)
    await asyncio.sleep(0)
    await consumer.stop()
    assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_a_consumer_that_never_started() -> None:
    """Whoever could not start it stops it all the same."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(KafkaConnectionError):
        await consumer.start()
    await consumer.stop()


@pytest.mark.servers
async def test_stopping_just_after_an_assignment(settings: Settings) -> None:
    """The fetcher is at that moment waiting for what it has cancelled itself, and must not take our cancellation for theirs."""
    await create_topics(settings)
    source = TopicPartition(RAW.named(settings.topic_prefix), 0)
    for turns in range(40):
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, auto_offset_reset="earliest")
        await consumer.start()
        consumer.assign([source])
        await consumer.position(source)
        consumer.assign([])
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        await asyncio.wait_for(consumer.stop(), 5)


@pytest.mark.servers
async def test_sending_on_a_connection_that_was_just_lost(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What uvloop says in that moment is an error of the connection, which is tried again, and no end of whatever was sending."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id="group", enable_auto_commit=False)
    await consumer.start()
    assert await consumer.topics()
    connection = next(each for each in consumer._client._conns.values() if each.connected())

    def closed(_: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed")

    monkeypatch.setattr(connection._writer, "write", closed)
    with pytest.raises(KafkaConnectionError):
        connection.send(MetadataRequest([]))
    assert not connection.connected()
    assert await consumer.topics()
    await consumer.stop()


@pytest.mark.servers
async def test_other_partitions_while_the_coordinator_is_looked_for(settings: Settings) -> None:
    """A consumer that names its group and was given other partitions just then still watches over its coordinator."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=settings.topic_prefix + "by-hand", enable_auto_commit=False)
    await consumer.start()
    coordinator = consumer._coordinator
    places = [TopicPartition(RAW.named(settings.topic_prefix), number) for number in range(2)]
    try:
        for turn in range(4):
            consumer.assign([places[turn % 2]])
            assert await consumer.committed(places[turn % 2]) is None
            coordinator.coordinator_dead()
            looking = asyncio.Event()
            ready = coordinator._client.ready

            async def found(*args: Any, looking: asyncio.Event = looking, ready: Any = ready, **options: Any) -> Any:
                looking.set()
                return await ready(*args, **options)

            coordinator._client.ready = found
            await asyncio.wait_for(looking.wait(), 10)
            consumer.assign([places[(turn + 1) % 2]])
            coordinator._client.ready = ready
            await asyncio.wait_for(coordinator.ensure_coordinator_known(), 10)
        await asyncio.wait({coordinator._coordination_task}, timeout=0.2)
        assert not coordinator._coordination_task.done()
    finally:
        await consumer.stop()


@pytest.mark.servers
async def test_no_broker_is_known_for_a_moment(settings: Settings) -> None:
    """A broker that was just away may name none; the coordinator is looked for again, and meanwhile the others have their turn."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=settings.topic_prefix + "by-hand", enable_auto_commit=False)
    await consumer.start()
    place = TopicPartition(RAW.named(settings.topic_prefix), 0)
    try:
        consumer.assign([place])
        assert await consumer.committed(place) is None
        cluster = consumer._client.cluster
        brokers, asked = cluster.brokers, asyncio.Event()

        def none() -> set[Any]:
            asked.set()
            return set()

        cluster.brokers = none
        consumer._coordinator.coordinator_dead()
        await asyncio.wait_for(asked.wait(), 10)
        cluster.brokers = brokers
        assert await asyncio.wait_for(consumer.committed(place), 30) is None
        assert not consumer._coordinator._coordination_task.done()
    finally:
        await consumer.stop()


@pytest.mark.servers
@pytest.mark.parametrize("unexpected", [None, ValueError("a mechanism that nobody knows")])
async def test_asking_brokers_that_are_away(settings: Settings, monkeypatch: pytest.MonkeyPatch, unexpected: Exception | None) -> None:
    """Whoever needs to know a leader asks again after a pause: it would take a whole core until a broker is back. No error ends that."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    await consumer.start()
    asked = 0

    async def refuse(*_: Any, **__: Any) -> None:
        nonlocal asked
        asked += 1
        if unexpected is not None:
            raise unexpected

    monkeypatch.setattr(consumer._client, "_get_conn", refuse)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await consumer._client.force_metadata_update()
    assert 5 <= asked <= 15
    await consumer.stop()


@pytest.mark.servers
async def test_who_reads_a_topic_does_not_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster that makes topics when they are asked about, a consumer that comes first makes none with the wrong partitions."""
    properties = kafka._properties
    monkeypatch.setattr(kafka, "_properties", lambda *which: properties(*which) | {"auto.create.topics.enable": "true"})
    async with own_broker(tmp_path) as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        reader = AIOKafkaConsumer(bootstrap_servers=broker.address, group_id="group")
        await reader.start()
        try:
            await reader._client.set_topics(["missing"])
            for _ in range(_ASKED):
                await reader._client.force_metadata_update()
            # The controller makes one after the other: what was asked for before is there when this is.
            await admin.create_topics([NewTopic("made", 1, 1)])
            async with asyncio.timeout(20):
                while "made" not in (topics := await admin.list_topics()):
                    pass
            assert "missing" not in topics
        finally:
            await reader.stop()
            await admin.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (JoinGroupRequest, RequestTimedOutError),
        (JoinGroupRequest, RebalanceInProgressError),
        (SyncGroupRequest, RequestTimedOutError),
        (SyncGroupRequest, GroupLoadInProgressError),
        (HeartbeatRequest, GroupLoadInProgressError),
    ],
)
async def test_a_coordinator_that_needs_a_moment_ends_no_membership(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: type, error: type[KafkaError]
) -> None:
    """While it loads its groups, or cannot write, a member asks again: it has its partitions then, and goes on with them."""
    await create_topics(settings)
    asked: list[Any] = []
    send = corrections._send
    enough = asyncio.Event()

    async def loading(coordinator: Any, request: Any) -> Any:
        if not isinstance(request, kind):
            return await send(coordinator, request)
        asked.append(request)
        if len(asked) > _REFUSED:
            enough.set()
            return await send(coordinator, request)
        return SimpleNamespace(error_code=error.errno)

    monkeypatch.setattr(corrections, "_send", loading)
    name = RAW.named(settings.topic_prefix)
    consumer = AIOKafkaConsumer(name, bootstrap_servers=settings.kafka, group_id=f"{settings.topic_prefix}group", heartbeat_interval_ms=100)
    await consumer.start()
    try:
        await asyncio.wait_for(enough.wait(), 20)
        async with asyncio.timeout(20):
            while not consumer.assignment():  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)
        await consumer.getmany(timeout_ms=10)  # which raises what ended the membership
    finally:
        await consumer.stop()


async def answers(client: Any, node: int) -> None:
    """Ask until there is no answer: some may have been on their way."""
    while True:
        await client.send(node, MetadataRequest([]))


@pytest.mark.servers
@pytest.mark.timeout(60)
async def test_a_broker_that_does_not_answer_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and is frozen: whoever asks hears of it in time, for others may lead by then what it led."""
    monkeypatch.setattr(corrections, "_ANSWER_S", 0.5)
    async with own_broker(tmp_path) as broker:
        client = AIOKafkaClient(bootstrap_servers=broker.address)
        await client.bootstrap()
        (node,) = (each.nodeId for each in client.cluster.brokers())
        assert await client.ready(node)
        broker.pause()
        began_at = time.monotonic()
        with pytest.raises(RequestTimedOutError):
            await answers(client, node)
        assert not await client.ready(node)  # nor to be connected with it
        assert 1 <= time.monotonic() - began_at < 10
        broker.go_on()
        await client.close()


async def test_members_wait_longer_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining is answered when all have come: asking again and again meanwhile would begin it anew."""
    waits: list[float] = []
    monkeypatch.setattr(corrections, "_write", lambda connection, *_: waits.append(connection._request_timeout))
    connection = SimpleNamespace(_request_timeout=5.0)
    for request in (JoinGroupRequest, SyncGroupRequest, HeartbeatRequest):
        corrections._send_connected(connection, request.__new__(request))
    assert (waits, connection._request_timeout) == ([15.0, 15.0, 5.0], 5.0)
