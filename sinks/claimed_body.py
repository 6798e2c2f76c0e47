"""A request's body that is claimed at the last moment, and looks at the clock once more right before its bytes leave."""

import time
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from infra.fault_points import point


class ClaimedBody(aiohttp.Payload):
    """A request's body that is claimed at the last moment: when its connection is there and asks for it.

    So hardly anything is claimed that has not left when a process dies, and what waits for a connection can still be somebody else's.
    `left` says whether the body was given away: until then nothing was certainly sent, for a request without its body is none.
    """

    def __init__(self, body: bytes, *, claim: Callable[[], Awaitable[float]], begins: Callable[[], None]) -> None:
        super().__init__(body, content_type="application/json")
        self._size = len(body)
        self._claim = claim
        self._begins = begins
        self.left = False

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body once; LostPartitionError if it is somebody else's to send."""
        point("sender.before_claim")
        until = 0.0
        while time.monotonic() >= until:  # granted too late, or we were paused meanwhile: others may have gone on
            until = await self._claim()
            self._begins()
            point("sender.leaving")
        # Nothing may come between the look at the clock and the bytes: a pause there lets them leave after others went on.
        self.left = True
        await writer.write(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        text: bytes = self._value
        return text.decode(encoding, errors)
