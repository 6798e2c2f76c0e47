"""streams.raw_source: what ended the membership in the group is told, and what lies in the log can be read again."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.errors import IllegalStateError, KafkaError

from infra.kafka.admin import KafkaUnreachableError, create_topics
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.topics import RAW
from streams.app import create_app


async def test_a_membership_that_ended_is_told(tmp_path: Path) -> None:
    """The routine of aiokafka ended with an error: the source says it; before Faust has started there is nothing to say."""
    app = create_app(Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", topic_prefix="t-", _env_file=None))
    app.source.check()
    routine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app.consumer._thread._consumer = SimpleNamespace(_coordinator=None)
    app.source.check()
    coordinator = SimpleNamespace(_coordination_task=routine, _pending_exception=None)
    app.consumer._thread._consumer = SimpleNamespace(_coordinator=coordinator)
    app.source.check()
    coordinator._pending_exception = KafkaError("it waits for somebody who fetches")
    with pytest.raises(KafkaError, match="waits for somebody"):
        app.source.check()
    routine.set_exception(KafkaError("the routine ended"))
    with pytest.raises(KafkaError, match="the routine ended"):
        app.source.check()


async def test_going_back_where_the_partition_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went while the broker was asked: no defect, whoever has it begins at what is committed. Anything else is told."""
    app = create_app(Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", topic_prefix="t-", _env_file=None))
    error: Exception = IllegalStateError("No current assignment for partition 3")

    async def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(app.consumer, "seek_wait", refuse)
    await app.source.go_back(3, 7)
    error = KafkaError("anything else")
    with pytest.raises(KafkaError, match="anything else"):
        await app.source.go_back(3, 7)


@pytest.mark.servers
async def test_a_stretch_of_the_log_is_read(settings: Settings) -> None:
    """From an offset up to another, in order, also when the reader goes away in the middle; without a broker that is said."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    for number in range(2_500):
        producer.produce(RAW.name, key=b"%d" % (number % 7), value=b"%d" % number, partition=1)
    await producer.send(RAW.name, key=b"last", value=b"last", partition=1)
    await producer.stop()
    source = create_app(settings).source
    found = [record async for records in source.read(1, 400, 2_450) for record in records]
    assert [record.offset for record in found] == [*range(400, 2_450)]
    assert {(record.topic, record.partition) for record in found} == {(RAW.name, 1)}
    assert (found[0].key, found[0].value) == (b"1", b"400")
    async with aclosing(source.read(1, 10, 2_501)) as batches:
        first = await anext(batches)
    assert first[0].offset == 10
    away = create_app(settings.model_copy(update={"kafka": "127.0.0.1:1"})).source
    with pytest.raises(KafkaUnreachableError):
        await anext(away.read(0, 0, 1))
