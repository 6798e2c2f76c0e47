"""What became of sends that are older than what the ledger remembers: Cassandra's `sends`, once history has got that far.

Needed rarely: for an id that a caller or a redrive uses again, for a group that was reset, and after a long stop.
"""

import asyncio

from infra.cassandra.late import LateCassandra
from infra.cassandra.reading import EVERY_TENANT
from infra.cassandra.sends import read_send
from infra.kafka.group_log import GroupLog
from infra.retries import AwayError
from infra.settings import Settings
from schemas.topics import SENT
from sinks.events_to_history import NAME as HISTORY
from sinks.ledger import Since


class OlderSends:
    """Looks sends up in history. Connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._lock = asyncio.Lock()
        self._history = GroupLog(settings, group=HISTORY)
        self._cassandra = LateCassandra(settings)
        self._kept_up: dict[int, int] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._history.close()
        await self._cassandra.close()

    async def has_outcome(self, send: str, *, partition: int, since: Since) -> bool:
        """Tell whether a send had its outcome, or a platform id, before `since`.

        Raises AwayError while Cassandra does not answer, or history has not yet written what stands in [sent] before `since`.
        """
        async with self._lock:
            if self._kept_up.get(partition, 0) < since.offset:
                self._kept_up[partition] = await self._history.committed(SENT.name, partition)
            if self._kept_up[partition] < since.offset:
                raise AwayError(f"history has yet to write what became of earlier sends of partition {partition}")
        found = await read_send(await self._cassandra.connected(), tenant=EVERY_TENANT, send=send)
        return found is not None and bool(found.outcome or found.platform_ids)
