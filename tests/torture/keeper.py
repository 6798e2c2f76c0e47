"""Keeps one process of a run going, and does to it what faults do."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable

from infra import children
from infra.errors import OttlaError

RESTART_S = 0.5
"""Between the death of a process and its next start: what `ottla up` waits after a first death; here every death is meant."""

Say = Callable[[str], None]
Start = Callable[[], Awaitable[children.Child]]


class Keeper:
    """Starts a process, and again whenever it ends, while it is wanted. `begun_at` is the time of its newest start."""

    def __init__(self, name: str, start: Start, say: Say) -> None:
        self.name = name
        self.begun_at = 0.0
        self.starts = 0
        self._start, self._say = start, say
        self._wanted, self._running = asyncio.Event(), asyncio.Event()
        self._child: children.Child | None = None
        self._end_is_meant = False
        self._task = asyncio.create_task(self._keep(), name=f"keep {name}")

    def want(self) -> None:
        """Have it run, and start it again whenever it ends."""
        self._wanted.set()

    def let_end(self) -> None:
        """Leave it as it is, and do not start it again when it has ended."""
        self._wanted.clear()

    @property
    def is_wanted(self) -> bool:
        """Whether it is to run."""
        return self._wanted.is_set()

    @property
    def is_running(self) -> bool:
        """Whether its process is there (perhaps paused)."""
        return self._running.is_set()

    async def running(self) -> None:
        """Return once its process is there; for a server: once it serves."""
        await self._running.wait()

    async def send(self, number: signal.Signals) -> None:
        """Send a signal to its process, which is waited for if it is just being started."""
        await self.running()
        if self._child is not None:
            self._end_is_meant |= number in {signal.SIGKILL, signal.SIGTERM}
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)

    async def end(self, number: signal.Signals, *, patience_s: float) -> None:
        """Send a signal and wait for the end it leads to, which SIGKILL brings after `patience_s` seconds."""
        child = self._child
        await self.send(number)
        if child is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                await children.wait_exit(child)
        except TimeoutError:
            self._say(f"{self.name} did not end within {patience_s:g} s of {number.name} and is killed")
            child.kill()
            await children.wait_exit(child)
        if self._child is child:
            self._running.clear()  # whoever waits until it runs means the next one, also where they come before those who start it

    async def close(self) -> None:
        """Kill it and be done."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            await children.wait_exit(self._child)

    async def _keep(self) -> None:
        while True:
            await self._wanted.wait()
            self.begun_at = time.time()
            self.starts += 1
            try:
                self._child = await self._start()
            except (OttlaError, OSError) as error:
                self._say(f"{self.name} cannot be started: {error}")
            else:
                self._running.set()
                code = await children.wait_exit(self._child)
                self._running.clear()
                self._tell(children.describe_exit(code))
            await asyncio.sleep(RESTART_S)

    def _tell(self, how: str) -> None:
        """Say how it ended, unless a fault has said so already."""
        meant, self._end_is_meant = self._end_is_meant, False
        if not meant:
            self._say(f"{self.name} ended by itself ({how})" + (f": starting it again in {RESTART_S:g} s" if self.is_wanted else ""))
