"""What became of sends that are older than what the ledger remembers: Cassandra's `sends`, once history has got that far.

Needed rarely: for an id that a caller or a redrive uses again, for a group that was reset, and after a long stop.
"""

import asyncio

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.cassandra.reading import EVERY_TENANT
from infra.cassandra.sends import read_send
from infra.cassandra.session import Cassandra
from infra.retries import AwayError
from infra.settings import Settings
from schemas.topics import SENT
from sinks.events_to_history import NAME as HISTORY
from sinks.ledger import Since

_TIMEOUT_S = 5.0


class OlderSends:
    """Looks sends up in history. Connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._cassandra: Cassandra | None = None
        self._kept_up: dict[int, int] = {}

    async def close(self) -> None:
        """Close the session."""
        if self._cassandra is not None:
            await self._cassandra.close()

    async def has_outcome(self, send: str, *, partition: int, since: Since) -> bool:
        """Tell whether a send had its outcome, or a platform id, before `since`.

        Raises AwayError while Cassandra does not answer, or history has not yet written what stands in [sent] before `since`.
        """
        async with self._lock:
            if self._kept_up.get(partition, 0) < since.offset:
                self._kept_up[partition] = await asyncio.to_thread(self._history_position, partition)
            if self._kept_up[partition] < since.offset:
                raise AwayError(f"history has yet to write what became of earlier sends of partition {partition}")
            if self._cassandra is None:
                self._cassandra = await Cassandra.connect(self._settings)
        found = await read_send(self._cassandra, tenant=EVERY_TENANT, send=send)
        return found is not None and bool(found.outcome or found.platform_ids)

    def _history_position(self, partition: int) -> int:
        """Return below which offset of [sent] history has written everything."""
        settings = self._settings
        client = AdminClient({"bootstrap.servers": settings.kafka})
        group = settings.topic_prefix + HISTORY
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(SENT.named(settings.topic_prefix), partition)])
        try:
            (answer,) = client.list_consumer_group_offsets([wanted], request_timeout=_TIMEOUT_S).values()
            (position,) = answer.result(_TIMEOUT_S).topic_partitions
        except (KafkaException, TimeoutError) as error:
            raise AwayError(f"the position of history cannot be read: {error}") from error
        return max(0, int(position.offset))
