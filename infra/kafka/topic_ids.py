"""What Kafka calls a topic: its id. One that was deleted and made anew has another, and its offsets begin again."""

import asyncio
from collections.abc import Collection

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from infra.kafka.admin import TIMEOUT_S, KafkaUnreachableError
from infra.kafka.connection import librdkafka_options
from infra.settings import Settings


async def topic_ids(settings: Settings, names: Collection[str]) -> dict[str, str]:
    """Return the ids of those of the topics (named as on the broker) that exist; KafkaUnreachableError if no broker answers."""
    return await asyncio.to_thread(_ask, settings, names)


def _ask(settings: Settings, names: Collection[str]) -> dict[str, str]:
    client = AdminClient(librdkafka_options(settings) | {"log_level": 2, "socket.timeout.ms": int(TIMEOUT_S * 1000)})
    try:
        there = set(client.list_topics(timeout=TIMEOUT_S).topics)
        wanted = [name for name in names if name in there]
        if not wanted:
            return {}
        futures = client.describe_topics(TopicCollection(wanted), request_timeout=TIMEOUT_S)
        return {name: str(future.result().topic_id) for name, future in futures.items()}
    except KafkaException:
        raise KafkaUnreachableError(settings.kafka) from None
