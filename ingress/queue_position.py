"""How many messages stand before one in its queue: its offset less what the sender has committed."""

import asyncio
import time

from infra.kafka.group_log import GroupLog
from infra.retries import AwayError
from infra.settings import Settings

_FRESH_S = 1.0
# The connection is made anew after a question that was not answered in time: that must show before whoever asked gives up.
_ANSWER_S, _ASK_S = 1.5, 2.0


class QueuePositions:
    """Asks the broker for the sender's committed offsets, at most once a second for each partition."""

    def __init__(self, settings: Settings) -> None:
        self._log = GroupLog(settings, group="sender", timeout_s=_ANSWER_S)
        self._known: dict[tuple[str, int], tuple[float, int]] = {}
        self._silent_at = -_FRESH_S

    async def position(self, topic: str, partition: int, offset: int) -> int | None:
        """Return 1 for the message that is sent next, 2 for the one after it, ...; None when the broker does not say.

        Nobody waits longer than two seconds for it, however many ask: their messages are stored already.
        """
        asked_at, committed = self._known.get((topic, partition), (0.0, 0))
        if time.monotonic() - asked_at > _FRESH_S:
            if time.monotonic() - self._silent_at < _FRESH_S:
                return None
            try:
                async with asyncio.timeout(_ASK_S):
                    committed = await self._log.committed(topic, partition)
            except (AwayError, TimeoutError):
                self._silent_at = time.monotonic()
                return None
            self._known[topic, partition] = (time.monotonic(), committed)
        return max(1, offset - committed + 1)

    async def close(self) -> None:
        """Close the connection."""
        await self._log.close()
