"""How many messages stand before one in its queue: its offset less what the sender has committed."""

import asyncio
import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import Settings

_FRESH_S = 1.0
_ASK_S = 2.0


class QueuePositions:
    """Asks the broker for the sender's committed offsets, at most once a second for each partition."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._group = settings.topic_prefix + "sender"
        self._admin = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 0})
        self._known: dict[tuple[str, int], tuple[float, int]] = {}

    async def position(self, topic: str, partition: int, offset: int) -> int | None:
        """Return 1 for the message that is sent next, 2 for the one after it, ...; None when the broker does not say."""
        asked_at, committed = self._known.get((topic, partition), (0.0, 0))
        if time.monotonic() - asked_at > _FRESH_S:
            try:
                committed = await asyncio.to_thread(self._committed, topic, partition)
            except KafkaException:
                return None
            self._known[topic, partition] = (time.monotonic(), committed)
        return max(1, offset - committed + 1)

    def _committed(self, topic: str, partition: int) -> int:
        asked = ConsumerGroupTopicPartitions(self._group, [TopicPartition(self._prefix + topic, partition)])
        answers = self._admin.list_consumer_group_offsets([asked], request_timeout=_ASK_S)
        offset: int = answers[self._group].result().topic_partitions[0].offset
        return max(0, offset)
