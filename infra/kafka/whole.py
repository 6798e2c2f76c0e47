"""Lets starts and stops of clients end before whoever waits for them is cancelled: else connections that are just being made stay open."""

import asyncio
from collections.abc import Awaitable

_PATIENCE_S = 3.0


async def whole(work: Awaitable[None]) -> None:
    """Await `work`, and be cancelled only when it has ended, or 3 s later."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_PATIENCE_S)
        if task.done() and not task.cancelled():
            task.exception()  # it is cancelled all the same
        raise
