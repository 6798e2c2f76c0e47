"""infra.kafka.stopping: a consumer can be stopped whatever its broker does."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from infra.kafka.admin import create_topics
from infra.kafka.stopping import stop_consumer
from infra.settings import Settings
from schemas.topics import RAW


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
    await stop_consumer(consumer)
    assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_a_consumer_that_never_started() -> None:
    """Whoever could not start it stops it all the same."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(KafkaConnectionError):
        await consumer.start()
    await stop_consumer(consumer)
