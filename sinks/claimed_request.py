"""A request that is claimed at the last moment, and looks at the clock once more right before its bytes leave."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from infra.fault_points import point
from infra.post_client import ClosedError


class Writable(Protocol):
    """What a request leaves through."""

    def write(self, request: bytes) -> None:
        """Let it leave; ClosedError, and nothing has left, where that is not possible any more."""


class ClaimedRequest:
    """A request that is claimed when its connection is there.

    So hardly anything is claimed that has not left when a process dies, and what waits for a connection can still be somebody else's.
    `left` says whether its bytes were given away: until then nothing was certainly sent.
    """

    def __init__(self, request: bytes, *, claim: Callable[[], Awaitable[float]], begins: Callable[[], None]) -> None:
        self._request = request
        self._claim = claim
        self._begins = begins
        self.left = False

    async def leave(self, connection: Writable) -> None:
        """Let the request leave once; LostPartitionError if it is somebody else's to send, ClosedError if the connection was closed."""
        point("sender.before_claim")
        until = 0.0
        while time.monotonic() >= until:  # granted too late, or we were paused meanwhile: others may have gone on
            until = await self._claim()
            self._begins()
            point("sender.leaving")
        # Nothing may come between the look at the clock and the bytes: a pause there lets them leave after others went on.
        self.left = True
        try:
            connection.write(self._request)
        except ClosedError:
            self.left = False
            raise
