"""The local servers: started side by side, found again, kept in bounds."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.servers.local import Servers
from infra.servers.wire import cassandra_serves, kafka_serves
from infra.settings import Settings

pytestmark = pytest.mark.servers


async def test_both_serve_when_started(servers: Servers) -> None:
    """When the start returns, a consumer group has a coordinator and a CQL client is let in."""
    assert await kafka_serves(int(servers.kafka.rpartition(":")[2]))
    assert await cassandra_serves(int(servers.cassandra.rpartition(":")[2]))


async def test_largest_record_passes(servers: Servers, settings: Settings) -> None:
    """A record of 6 MiB, the largest of any topic, is stored."""
    topic = f"{settings.topic_prefix}large"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    try:
        largest = str(6 * 1024 * 1024 + 16 * 1024)
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": largest})])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka, max_request_size=7 * 1024 * 1024, acks="all")
    await producer.start()
    try:
        stored = await producer.send_and_wait(topic, bytes(6 * 1024 * 1024))
    finally:
        await producer.stop()
    assert stored.offset == 0
