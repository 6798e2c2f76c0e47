"""infra.kafka.group_log on a real broker: what a group has to read next, and which record stands where."""

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.admin import create_topics
from infra.kafka.group_log import GroupLog
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.topics import RAW


@pytest.mark.servers
async def test_it_says_what_the_broker_has(settings: Settings) -> None:
    """Nothing committed is the beginning; then it is what was committed last, also by others; records are found from an offset on."""
    await create_topics(settings)
    group, source = f"{settings.topic_prefix}streams", TopicPartition(RAW.named(settings.topic_prefix), 3)
    producer = Producer(settings, client_id="test")
    await producer.start()
    member = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=group, enable_auto_commit=False)
    await member.start()
    log = GroupLog(settings, group="streams")
    try:
        for _ in range(4):
            await producer.send(RAW.name, key=b"key", value=b"{}", partition=3)
        assert await log.next_to_read(RAW.name, 3) == 0
        member.assign([source])
        await member.commit({source: 2})
        assert (await log.next_to_read(RAW.name, 3), await log.next_to_read(RAW.name, 4), await log.first_at(RAW.name, 3, 1)) == (2, 0, 1)
    finally:
        await log.close()
        await member.stop()
        await producer.stop()
