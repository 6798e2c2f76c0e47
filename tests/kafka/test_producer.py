"""infra.kafka.producer: what is acknowledged is in the log, once and in order; what is not ends with an error in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidProducerEpoch, KafkaConnectionError, NotEnoughReplicasError
from confluent_kafka import Producer as ConfluentProducer

from infra.kafka import producer as producer_module
from infra.kafka.admin import create_topics
from infra.kafka.brokers import Answer, Brokers
from infra.kafka.producer import ProduceError, Producer, settle
from infra.settings import Settings
from schemas.topics import RAW, RECORD_BYTES_MAX, STATUS
from tests.kafka.own_broker import own_broker
from tests.reading import records
from tests.topic_settings import set_topic

KEY = b"wa:1:2"
pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

Batches = Sequence[tuple[str, int, bytearray]]
_produce = Brokers.produce


@asynccontextmanager
async def running(settings: Settings, *, delivery_timeout_s: float = 30.0) -> AsyncIterator[Producer]:
    """Have a producer on topics that exist."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test", delivery_timeout_s=delivery_timeout_s)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def values(settings: Settings, topic: str = RAW.name) -> list[bytes]:
    """Return what a topic holds, each partition in its order."""
    return [record.value for record in await records(settings, topic)]


async def take_at_most(settings: Settings, size: int) -> None:
    """Let [raw] take batches of so many bytes at most."""
    await set_topic(settings, RAW.name, "max.message.bytes", str(size))


async def test_each_record_once_in_order_at_its_offset(settings: Settings) -> None:
    """Over several partitions and topics at once, in batches that form by themselves."""
    async with running(settings) as producer:
        futures = {
            (topic, key, number): producer.produce(topic, key=key, value=b"%d" % number)
            for number in range(500)
            for key in (b"a", b"b", b"c", b"d")
            for topic in (RAW.name, STATUS.name)
        }
        assert producer.queued == len(futures)
        await settle([*futures.values()])
        assert producer.queued == 0
    for topic in (RAW.name, STATUS.name):
        found = await records(settings, topic)
        assert len(found) == 2000
        for key in (b"a", b"b", b"c", b"d"):
            of_key = [record for record in found if record.key == key]
            assert [int(record.value) for record in of_key] == [*range(500)]
            assert [record.offset for record in of_key] == [futures[topic, key, number].result() for number in range(500)]


async def test_placed_as_javas_client_does(settings: Settings) -> None:
    """Librdkafka's murmur2_random is compatible with Java's partitioner, and is who placed these topics' records before."""
    async with running(settings) as producer:
        theirs = ConfluentProducer({"bootstrap.servers": settings.kafka, "partitioner": "murmur2_random"})
        for number in range(300):
            theirs.produce(settings.topic_prefix + RAW.name, key=b"k" * (number % 7) + b"%d" % number, value=b"theirs")
        await asyncio.to_thread(theirs.flush, 30)
        await settle([producer.produce(RAW.name, key=b"k" * (number % 7) + b"%d" % number, value=b"ours") for number in range(300)])
    places: dict[bytes, dict[bytes, int]] = {}
    for record in await records(settings, RAW.name):
        places.setdefault(record.value, {})[record.key] = record.partition
    assert len(places[b"ours"]) == 300
    assert places[b"ours"] == places[b"theirs"]


async def test_headers_times_and_what_is_absent(settings: Settings) -> None:
    """A record comes out as it went in; without a key it goes anywhere, with a partition there."""
    async with running(settings) as producer:
        await producer.send(RAW.name, key=KEY, value=None, headers=[("ce_id", b"1"), ("ce_id", b"2")], partition=3)
        for _ in range(20):
            await producer.send(STATUS.name, key=None, value=b"x")
        with pytest.raises(ProduceError, match="raw has no partition 99, only"):
            await producer.send(RAW.name, key=KEY, value=b"1", partition=99)
    (record,) = await records(settings, RAW.name)
    assert (record.partition, record.value, record.headers) == (3, None, (("ce_id", b"1"), ("ce_id", b"2")))
    assert len({record.partition for record in await records(settings, STATUS.name)}) > 1


@pytest.mark.parametrize("is_known", [True, False], ids=["known topic", "new topic"])
async def test_what_cannot_be_written_harms_nothing_else(settings: Settings, *, is_known: bool) -> None:
    """A key or value that is no bytes is its caller's error; the records beside it are written, and the books are right."""
    async with running(settings) as producer:
        if is_known:
            await producer.send(RAW.name, key=KEY, value=b"0")
        bad: Sequence[tuple[object, object]] = [("text", b"1"), (KEY, 5), (bytearray(b"a"), b"1")]
        futures = []
        for key, value in bad:
            try:
                futures.append(producer.produce(RAW.name, key=key, value=value))  # type: ignore[arg-type]  # that is the point
            except TypeError:
                continue
            futures.append(producer.produce(RAW.name, key=KEY, value=b"good"))
        outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)
        assert [isinstance(each, ProduceError) for each in outcomes] == [True, False] * (len(outcomes) // 2)
        assert "cannot be written" in str(outcomes[0])
        assert producer.queued == 0
    assert (await values(settings)).count(b"good") == len(outcomes) // 2 > 0


async def test_a_lost_answer_does_not_double(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker has written the batch and nobody hears of it: sent again it is known by its number, and has the offset of the first."""
    lost = 0

    async def lose(brokers: Brokers, node_id: int, batches: Batches) -> Answer:
        nonlocal lost
        answer = await _produce(brokers, node_id, batches)
        if lost < 3:
            lost += 1
            raise KafkaConnectionError("cut off")
        return answer

    monkeypatch.setattr(Brokers, "produce", lose)
    async with running(settings) as producer:
        first = producer.produce(RAW.name, key=KEY, value=b"1")
        second = producer.produce(RAW.name, key=KEY, value=b"2")
        assert await first + 1 == await second
        assert await producer.send(RAW.name, key=KEY, value=b"3") == await second + 1
    assert lost == 3
    assert await values(settings) == [b"1", b"2", b"3"]


async def test_a_request_that_never_arrived_is_sent_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing overtakes it meanwhile."""
    lost = 0
    begun = asyncio.Event()

    async def lose(brokers: Brokers, node_id: int, batches: Batches) -> Answer:
        nonlocal lost
        begun.set()
        lost += 1
        if lost <= 2:
            raise KafkaConnectionError("cut off")
        return await _produce(brokers, node_id, batches)

    monkeypatch.setattr(Brokers, "produce", lose)
    async with running(settings) as producer:
        futures = [producer.produce(RAW.name, key=KEY, value=b"1")]
        await begun.wait()
        futures += [producer.produce(RAW.name, key=KEY, value=b"%d" % number) for number in range(2, 50)]
        await settle(futures)
    assert await values(settings) == [b"%d" % number for number in range(1, 50)]


async def test_what_was_given_up_cannot_be_written_later(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request stuck on its way, whose sender has long gone on, is refused by the broker: it would be a record out of order."""
    stuck: list[tuple[int, list[tuple[str, int, bytearray]]]] = []

    async def stick(brokers: Brokers, node_id: int, batches: Batches) -> Answer:
        if any(b"stuck" in data for _, _, data in batches):
            stuck.append((node_id, [(topic, number, bytearray(data)) for topic, number, data in batches]))
            raise KafkaConnectionError("cut off")
        return await _produce(brokers, node_id, batches)

    monkeypatch.setattr(Brokers, "produce", stick)
    async with running(settings, delivery_timeout_s=1.0) as producer:
        await producer.send(RAW.name, key=KEY, value=b"before")
        with pytest.raises(ProduceError, match=r"not acknowledged within 1 s \(KafkaConnectionError: cut off\)"):
            await producer.send(RAW.name, key=KEY, value=b"stuck")
        await producer.send(RAW.name, key=KEY, value=b"after")
        brokers, reached = Brokers(settings, client_id="late", request_timeout_s=5.0), asyncio.Event()
        reaching = asyncio.create_task(brokers.keep_connected(reached.set))
        try:
            await reached.wait()
            for node_id, batches in stuck:
                refused = [code for code, _ in (await _produce(brokers, node_id, batches)).values()]
                assert refused == [InvalidProducerEpoch.errno]
        finally:
            reaching.cancel()
            await brokers.close()
        await producer.send(RAW.name, key=KEY, value=b"later")
    assert len(stuck) > 1
    assert await values(settings) == [b"before", b"after", b"later"]


async def test_a_record_too_large_for_its_topic_takes_nothing_with_it(settings: Settings) -> None:
    """It is refused for good; what was queued before and behind it, for the same partition, is written."""
    async with running(settings) as producer:
        await take_at_most(settings, 400_000)
        futures = [producer.produce(RAW.name, key=KEY, value=value) for value in (b"1", bytes(500_000), b"2", bytes(600_000), b"3")]
        outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)
        assert [isinstance(outcome, ProduceError) for outcome in outcomes] == [False, True, False, True, False]
        assert str(outcomes[1]) == "Broker: Message size too large"
        with pytest.raises(ProduceError, match="too large: a topic takes"):
            await producer.send(RAW.name, key=KEY, value=bytes(RECORD_BYTES_MAX + 70_000))
    assert await values(settings) == [b"1", b"2", b"3"]


async def test_too_few_replicas(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is refused while too few brokers are in sync, and written once there are enough; in time, or its error has the cause."""
    enough = asyncio.Event()

    async def refuse(brokers: Brokers, node_id: int, batches: Batches) -> Answer:
        # A topic with one replica is never short of them, so this answer cannot be had from one broker.
        held = [batch for batch in batches if batch[0].endswith(RAW.name) and not enough.is_set()]
        refused = {(topic, number): (NotEnoughReplicasError.errno, -1) for topic, number, _ in held}
        asked = [batch for batch in batches if (batch[0], batch[1]) not in refused]
        return refused | (await _produce(brokers, node_id, asked) if asked else {})

    monkeypatch.setattr(Brokers, "produce", refuse)
    async with running(settings, delivery_timeout_s=2.0) as producer:
        refused = producer.produce(RAW.name, key=KEY, value=b"1")
        assert await producer.send(STATUS.name, key=KEY, value=b"elsewhere") == 0, "another topic is not held up"
        with pytest.raises(ProduceError, match=r"not acknowledged within 2 s \(Broker: Not enough in-sync replicas\)"):
            await refused
        waiting = producer.produce(RAW.name, key=KEY, value=b"2")
        await asyncio.wait([waiting], timeout=0.5)
        assert not waiting.done()
        enough.set()
        assert await asyncio.wait_for(waiting, 2) == 0
    assert await values(settings) == [b"2"]


async def test_a_topic_that_is_missing(settings: Settings) -> None:
    """It may be about to be made; after a while the error says what to do."""
    producer = Producer(settings, client_id="test")
    await producer.start()
    try:
        with pytest.raises(ProduceError, match=r"no topic .*raw: run `ottla topics create`"):
            await asyncio.wait_for(producer.send(RAW.name, key=KEY, value=b"1"), 20)
        with pytest.raises(ProduceError, match=r"no topic .*raw: run `ottla topics create`"):
            await producer.partitions(RAW.name)
        early = producer.produce(RAW.name, key=KEY, value=b"2")
        await create_topics(settings)
        assert await asyncio.wait_for(early, 20) == 0
        assert await producer.partitions(RAW.name) == settings.partitions
    finally:
        await producer.stop()
    assert await values(settings) == [b"2"]


async def test_a_broker_that_nobody_reaches(settings: Settings) -> None:
    """Records that wait for their topic end in time as well, as often as new ones come, and the error says why."""
    away = settings.model_copy(update={"kafka": "127.0.0.1:9"})
    producer = Producer(away, client_id="test", delivery_timeout_s=0.5)
    await producer.start()
    for _ in range(3):
        with pytest.raises(ProduceError, match=r"not acknowledged within 0.5 s \(KafkaConnectionError"):
            await asyncio.wait_for(producer.send(RAW.name, key=KEY, value=b"1"), 10)
    with pytest.raises(ProduceError, match="Unable to bootstrap"):
        await producer.ask_partitions(RAW.name, timeout_s=0.3)
    left = producer.produce(RAW.name, key=KEY, value=b"1")
    await producer.stop(timeout_s=0.1)
    with pytest.raises(ProduceError, match="the producer was stopped"):
        await left
    with pytest.raises(ProduceError, match="was stopped"):
        producer.produce(RAW.name, key=KEY, value=b"1")
    with pytest.raises(ProduceError, match="was stopped"):
        await producer.ask_partitions(RAW.name)
    assert producer.queued == 0


async def test_a_full_queue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded by records and by bytes, and room is made again."""
    monkeypatch.setattr(producer_module, "_RECORDS_MAX", 10)
    monkeypatch.setattr(producer_module, "_BYTES_MAX", 5_000)
    async with running(settings) as producer:
        for size in (1, 2_000):
            futures = [producer.produce(RAW.name, key=KEY, value=bytes(size)) for _ in range(10 if size == 1 else 2)]
            with pytest.raises(ProduceError, match="queue is full"):
                producer.produce(RAW.name, key=KEY, value=bytes(size))
            await settle(futures)


async def test_nobody_waits_any_more(settings: Settings) -> None:
    """A record whose caller has gone is written all the same, and nothing stumbles over its future."""
    async with running(settings) as producer:
        futures = [producer.produce(RAW.name, key=KEY, value=b"%d" % number) for number in range(3)]
        futures[1].cancel()
        assert await futures[2] == await futures[0] + 2
    assert await values(settings) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("fault", ["killed", "paused"])
async def test_a_broker_that_goes_and_comes_back(tmp_path: Path, fault: str) -> None:
    """Records that wait meanwhile are written once, in order, when it is back; those whose time was over never behind their successors."""
    async with own_broker(tmp_path) as broker:
        own = Settings(kafka=broker.address, home=tmp_path / "home", partitions=2)
        async with running(own, delivery_timeout_s=2.0) as impatient, running(own, delivery_timeout_s=60.0) as patient:
            for producer in (impatient, patient):
                await producer.send(RAW.name, key=b"impatient" if producer is impatient else KEY, value=b"0")
            (broker.pause if fault == "paused" else broker.kill)()
            taken = [patient.produce(RAW.name, key=KEY, value=b"%d" % number) for number in range(1, 100)]
            with pytest.raises(ProduceError, match="not acknowledged within 2 s"):
                await impatient.send(RAW.name, key=b"impatient", value=b"1")
            taken += [patient.produce(RAW.name, key=KEY, value=b"%d" % number) for number in range(100, 200)]
            if fault == "paused":
                broker.go_on()
            else:
                await broker.start()
            await asyncio.wait_for(settle(taken), 60)
            async with asyncio.timeout(60):
                while True:
                    try:
                        await impatient.send(RAW.name, key=b"impatient", value=b"2")
                        break
                    except ProduceError:
                        continue
        found = await records(own, RAW.name)
        assert [int(record.value) for record in found if record.key == KEY] == [*range(200)]
        seen = [int(record.value) for record in found if record.key == b"impatient"]
        assert seen == sorted(seen)
        # 2 was tried until it was acknowledged, each time as a new record.
        assert (seen.count(0), seen.count(1) <= 1, seen.count(2) >= 1) == (1, True, True)


async def test_stopping_before_a_broker_that_is_paused(tmp_path: Path) -> None:
    """Whoever waits is told, at once when the time for sending is over, however long the connections take."""
    async with own_broker(tmp_path) as broker:
        own = Settings(kafka=broker.address, home=tmp_path / "home", partitions=2)
        await create_topics(own)
        producer = Producer(own, client_id="test")
        await producer.start()
        await producer.send(RAW.name, key=KEY, value=b"0")
        broker.pause()
        # More than the sockets take, so that some of it never leaves us.
        futures = [producer.produce(RAW.name, key=b"%d" % number, value=bytes(5_000_000)) for number in range(8)]
        await asyncio.wait(futures, timeout=0.5)
        stopping = asyncio.create_task(producer.stop(timeout_s=0.1))
        outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 2)
        assert {str(outcome) for outcome in outcomes} == {"the producer was stopped"}
        await asyncio.wait_for(stopping, 5)
        await producer.stop()


async def test_a_broker_that_does_not_know_itself_yet(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just back, it answers that there is no broker: that is no answer to go on with."""
    bootstrap, times = AIOKafkaClient.bootstrap, 0

    async def empty_at_first(client: AIOKafkaClient) -> None:
        nonlocal times
        times += 1
        await bootstrap(client)
        if times <= 2:
            client.cluster._brokers.clear()

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", empty_at_first)
    async with running(settings) as producer:
        assert await asyncio.wait_for(producer.send(RAW.name, key=KEY, value=b"1"), 10) == 0
    assert times == 3


async def test_brokers_that_have_all_gone_elsewhere(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are known answer no more; those behind the first addresses do, and what waits goes to them."""
    monkeypatch.setattr("infra.kafka.brokers._LOST_S", 0.5)
    async with running(settings) as producer:
        await producer.send(RAW.name, key=KEY, value=b"1")
        before = producer._brokers._client
        send = AIOKafkaClient.send

        async def gone(client: AIOKafkaClient, *words: object, **named: object) -> object:
            if client is before:
                raise KafkaConnectionError("nobody lives here any more")
            return await send(client, *words, **named)

        monkeypatch.setattr(AIOKafkaClient, "send", gone)
        assert await asyncio.wait_for(producer.send(RAW.name, key=KEY, value=b"2"), 20) == 1
        assert await producer.partitions(STATUS.name) == settings.partitions
    assert await values(settings) == [b"1", b"2"]


async def test_a_broker_away_holds_up_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is being connected to, or does not answer, the partitions of the others are written."""
    leader, reach, stuck = Brokers.leader, Brokers.reach, asyncio.Event()

    async def reach_or_hang(brokers: Brokers, node_id: int) -> None:
        if node_id == 99:
            await stuck.wait()
        await reach(brokers, node_id)

    def leader_or_99(brokers: Brokers, topic: str, number: int) -> int | None:
        return 99 if topic.endswith(STATUS.name) and not stuck.is_set() else leader(brokers, topic, number)

    monkeypatch.setattr(Brokers, "reach", reach_or_hang)
    monkeypatch.setattr(Brokers, "leader", leader_or_99)
    async with running(settings) as producer:
        held_up = producer.produce(STATUS.name, key=KEY, value=b"held up")
        for number in range(5):
            assert await asyncio.wait_for(producer.send(RAW.name, key=KEY, value=b"1"), 5) == number
        assert not held_up.done()
        stuck.set()
        assert await asyncio.wait_for(held_up, 10) == 0


async def test_a_process_that_was_paused_reads_its_answers_first(settings: Settings) -> None:
    """What was written while it stood still is acknowledged, although its time is over by then."""
    async with running(settings, delivery_timeout_s=1.5) as producer:
        await producer.send(RAW.name, key=KEY, value=b"1")
        written = producer.produce(RAW.name, key=KEY, value=b"2")
        await asyncio.sleep(0.02)  # it leaves
        time.sleep(3)  # noqa: ASYNC251  # as SIGSTOP does
        assert await asyncio.wait_for(written, 5) == 1


async def test_told_that_it_failed_a_record_does_not_leave_any_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its broker is reached when its time is over: whoever was told will have written it again."""
    reach, late = Brokers.reach, asyncio.Event()

    async def reach_late(brokers: Brokers, node_id: int) -> None:
        await late.wait()
        await reach(brokers, node_id)

    monkeypatch.setattr(Brokers, "reach", reach_late)
    async with running(settings, delivery_timeout_s=0.5) as producer:
        with pytest.raises(ProduceError, match=r"not acknowledged within 0.5 s"):
            await producer.send(RAW.name, key=KEY, value=b"1")
        late.set()
        assert await producer.send(RAW.name, key=KEY, value=b"2") == 0
    assert await values(settings) == [b"2"]
