"""`ottla up` as a child with a home and ports of its own, so that the demo meets exactly what a user starts."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp

from infra.children import spawn, wait_exit
from infra.errors import OttlaError, UsageError
from infra.settings import Settings

_READY_PAUSE_S = 0.25
_STOP_PATIENCE_S = 30.0
_SHOWN_LINES = 3


def demo_environment(environment: Mapping[str, str], *, home: Path, platform_port: int) -> dict[str, str]:
    """Return the environment of the demo's installation: ours, but nothing of it leads to another installation or a paid model."""
    kept = {name: value for name, value in environment.items() if not name.startswith("OTTLA_")}
    own = {
        "OTTLA_HOME": str(home),
        "OTTLA_HOST": "127.0.0.1",
        "OTTLA_PORT": str(free_port()),
        "OTTLA_WHATSAPP_API": f"http://127.0.0.1:{platform_port}/v25.0",
        "OTTLA_CANARY_INTERVAL": "0",
        "OTTLA_NUMBER_RATE": "0",
        "OTTLA_PAIR_RATE": "0",
        "OTTLA_LOG_LEVEL": environment.get("OTTLA_LOG_LEVEL", "warning"),
    }
    return kept | own


def base_url(settings: Settings) -> str:
    """Return where the ingress of the demo's installation listens."""
    return f"http://{settings.host}:{settings.port}"


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class Installation:
    """A running `ottla up`; `async with` starts it and stops it. Its output goes to `log`."""

    def __init__(self, settings: Settings, *, environment: Mapping[str, str]) -> None:
        self.url = base_url(settings)
        self.log = settings.home / "demo.log"
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("wb") as output:
            command = [sys.executable, "-m", "infra", "up"]
            self._child = spawn(command, environment=self._environment, output=output, die_with_parent=signal.SIGTERM)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let it drain and end; nothing happens if it has ended."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(wait_exit(child), _STOP_PATIENCE_S)
        except TimeoutError:
            child.kill()
            await wait_exit(child)

    async def wait_until_ready(self, *, patience_s: float) -> None:
        """Return when /readyz answers 200; OttlaError with a sentence if the child ends or takes too long."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            deadline = asyncio.get_running_loop().time() + patience_s
            while not await _is_ready(session, self.url):
                if self._child is None or self._child.poll() is not None:
                    raise OttlaError(f"`ottla up` ended before it was ready: {self._last_words()} ({self.log} has all of it).")
                if asyncio.get_running_loop().time() > deadline:
                    raise OttlaError(f"`ottla up` was not ready within {patience_s:.0f} s: {self.log} says why.")
                await asyncio.sleep(_READY_PAUSE_S)

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-_SHOWN_LINES:]).rstrip(".") or "it said nothing"


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, TimeoutError):
        return False


def take_over(environment: Mapping[str, str], *, home: Path) -> None:
    """Make this process part of the demo's installation: same variables, and a folder without a `.env` of the user's.

    Raises UsageError with a sentence if the folder cannot be used.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)
    except OSError as error:
        raise UsageError(f"{home} cannot be used for the demo ({error.strerror}): name another folder with --home.") from None
    os.environ.clear()
    os.environ.update(environment)
