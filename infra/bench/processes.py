"""The processes of a run: started, asked whether they are ready, and what they have used so far."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil

from infra.children import spawn, wait_exit
from infra.errors import OttlaError
from infra.role_figures import Figures, samples_of

T = TypeVar("T")

_READY_PAUSE_S = 0.1
_STOP_S = 15.0
_LOOK_AGAIN_S = 0.25
_SHOWN_LINES = 3


@dataclass
class Child:
    """A Python process of ours: `words` are what Python runs; a `port` says at `path` when it is ready. `name` is that of its figures."""

    name: str
    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    port: int
    path: str = "/readyz"
    process: subprocess.Popen[bytes] | None = None
    is_wanted: bool = False

    def start(self) -> None:
        """Start it, or start it again; its log goes on."""
        self.is_wanted = True
        with self.log.open("ab") as output:
            self.process = spawn(
                [sys.executable, *self.words],
                environment=self.environment,
                output=output,
                die_with_parent=signal.SIGTERM,
                folder=self.log.parent,
            )

    async def ready(self, *, patience_s: float) -> None:
        """Wait until it answers 200; OttlaError with a sentence if it ends or takes longer."""
        deadline = time.monotonic() + patience_s
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not await _is_ready(session, f"http://127.0.0.1:{self.port}{self.path}"):
                self.check()
                if time.monotonic() > deadline:
                    raise OttlaError(f"{self.name} was not ready within {patience_s:.0f} s: {self.log} may say why.")
                await asyncio.sleep(_READY_PAUSE_S)

    def check(self) -> None:
        """Raise OttlaError with its last words if it has ended though nobody stopped it."""
        if self.is_wanted and (self.process is None or self.process.poll() is not None):
            raise OttlaError(f"{self.name} ended by itself: {self._last_words()} ({self.log} has all of it).")

    async def figures(self) -> Figures:
        """Return what it counts, as it says at /metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return Figures(samples_of([await answer.text()]))

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it: with a signal, and by force if that takes too long."""
        self.is_wanted = False
        child = self.process
        if child is None or child.poll() is not None:
            return
        child.send_signal(number)
        try:
            await asyncio.wait_for(wait_exit(child), _STOP_S)
        except TimeoutError:
            child.kill()
            await wait_exit(child)

    @property
    def pid(self) -> int:
        """Its number; 0 before it was started."""
        return 0 if self.process is None else self.process.pid

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-_SHOWN_LINES:]).rstrip(".") or "it said nothing"


async def while_all_run(children: Mapping[str, Child], work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; OttlaError as soon as one of the children has ended that nobody stopped."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_AGAIN_S)
            for child in children.values():
                child.check()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, TimeoutError):
        return False


@dataclass
class Meter:
    """Which processes are counted, by name: several may share one. Those of the load are never here."""

    pids: dict[str, set[int]] = field(default_factory=dict)

    def add(self, name: str, pid: int) -> None:
        """Count one more process under a name."""
        self.pids.setdefault(name, set()).add(pid)

    def remove(self, name: str, pid: int) -> None:
        """Count a process no more."""
        self.pids.get(name, set()).discard(pid)

    def cpu_s(self) -> dict[str, float]:
        """Return the processor seconds (user and system) that each name has used so far, children included."""
        return {name: sum(map(_cpu_s, pids)) for name, pids in self.pids.items()}

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of each name in MB."""
        return {name: sum(map(_resident_bytes, pids)) / 1e6 for name, pids in self.pids.items()}


def _cpu_s(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _resident_bytes(pid: int) -> int:
    total = 0
    for process in _family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
