"""How a topic is kept, changed for a test."""

import asyncio

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.settings import Settings

_ANSWER_S = 15.0


async def set_topic(settings: Settings, topic: str, name: str, value: str) -> None:
    """Give a topic's setting a value, and wait until the broker says that it has it."""
    client = AdminClient({"bootstrap.servers": settings.kafka})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, settings.topic_prefix + topic, incremental_configs=[entry])
    (changed,) = client.incremental_alter_configs([resource]).values()
    await asyncio.to_thread(changed.result, _ANSWER_S)
    said = ""
    async with asyncio.timeout(_ANSWER_S):
        while said != value:
            (described,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, settings.topic_prefix + topic)]).values()
            said = (await asyncio.to_thread(described.result, _ANSWER_S))[name].value


async def forget_before(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """Have the log of a partition begin at an offset, as retention does."""
    client = AdminClient({"bootstrap.servers": settings.kafka})
    (answer,) = client.delete_records([TopicPartition(settings.topic_prefix + topic, partition, offset)]).values()
    await asyncio.to_thread(answer.result, _ANSWER_S)
