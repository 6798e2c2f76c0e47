"""Ends in time: limits for what is under way when everything ends, and starts that are given up when they are told to."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Closing:
    """Limits what is awaited; once it is closed everything has `within_s` seconds, whatever time it had before."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._within_s: float | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it was told to end."""
        return self._within_s is not None

    @asynccontextmanager
    async def limited(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Let the body take so many seconds (None: any); TimeoutError if it takes longer, or is at it for too long once this is closed."""
        if self._within_s is not None:
            timeout_s = self._within_s if timeout_s is None else min(timeout_s, self._within_s)
        async with asyncio.timeout(timeout_s) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def close(self, within_s: float = 0.0) -> None:
        """End what is under way, and whatever begins from now on, within so many seconds of now or of its beginning."""
        self._within_s = within_s
        until = asyncio.get_running_loop().time() + within_s
        for limit in self._limits:
            left = limit.when()
            if not limit.expired() and (left is None or left > until):
                limit.reschedule(until)


async def run_until(ended: asyncio.Future[None], start: Coroutine[Any, Any, None]) -> None:
    """Start something and wait until it is to end, which gives up a start under way; raises what `start` raises, or what ended it."""
    starting = asyncio.create_task(start, name="start")
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await starting
        await ended
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


def stop_at_signal(stopping: asyncio.Event, told: Callable[[], None] = lambda: None) -> None:
    """Let the first Ctrl-C (or SIGTERM) set `stopping` and tell of it, and the second one end everything at once."""
    if threading.current_thread() is not threading.main_thread():
        return  # signals are somebody else's
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        told()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def until_stopped(batches: AsyncGenerator[T, None], stopping: asyncio.Event) -> AsyncGenerator[T, None]:
    """Yield what a generator does until `stopping` is set, also while it waits, and close it."""
    stops = asyncio.create_task(stopping.wait(), name="stop")
    following: asyncio.Future[T | None] | None = None
    try:
        while not stopping.is_set():
            following = asyncio.ensure_future(anext(batches, None))
            await asyncio.wait({following, stops}, return_when=asyncio.FIRST_COMPLETED)
            batch = following.result() if following.done() else None
            if batch is None:
                return
            yield batch
    finally:
        stops.cancel()
        if following is not None and not following.done():
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await batches.aclose()
