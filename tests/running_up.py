"""`ottla up` as a process of its own, with its own servers, as somebody outside starts it; platform and model are in this process."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.driver import ACCOUNT
from tests.installation import Outside

# With fetched jars a start takes ten to twenty seconds; a busy machine may need far longer.
READY_S = 120.0
STOPPED_S = 10.0
UNKNOWN_WAIT_S = 3


@dataclass
class RunningUp(Outside):
    """One `ottla up` and what is around it; `start` again after a stop keeps its home and its port."""

    process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Return what `up`, and every other command that concerns it, is started with."""
        return {
            **self.outside_environment(),
            "OTTLA_AI_URL": self.model.api_url,
            "OTTLA_UNKNOWN_WAIT": str(UNKNOWN_WAIT_S),
        }

    async def start(self) -> None:
        """Start it and wait until it is ready; AssertionError with its last lines if it ends or does not become ready."""
        self.process = self._begun()
        try:
            async with asyncio.timeout(READY_S):
                while not await self.says_ready(self.port):
                    assert self.process.poll() is None, self.last_lines()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not ready: {self.last_lines()}") from None

    def _begun(self) -> subprocess.Popen[bytes]:
        home = self.settings.home
        home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # In its home, so that no `.env` of the person who runs the tests is found.
            return subprocess.Popen(
                [sys.executable, "-m", "infra", "up"], env=self.environment(), cwd=home, stdout=log, stderr=log, start_new_session=True
            )

    async def stop(self) -> int:
        """Ask it to stop and return its exit code; TimeoutExpired if that takes longer than it may."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOPPED_S)

    async def end(self) -> None:
        """Kill whatever is left and stop what is around it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for left in self.processes():
            left.kill()
        await self.finish()

    @property
    def log(self) -> Path:
        """Where its lines go."""
        return self.settings.home / "up.log"

    def processes(self) -> list[psutil.Process]:
        """Return every process of this installation, by the OTTLA_HOME in its environment or in its command line."""
        return [process for process in psutil.process_iter() if _belongs(process, str(self.settings.home))]

    def kill(self, command: str) -> None:
        """Kill -9 the one process that has this in its command line."""
        (found,) = [process for process in self.processes() if command in " ".join(process.cmdline())]
        found.kill()

    def ottla(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command for this installation."""
        return subprocess.run(
            [sys.executable, "-m", "infra", *words],
            env=self.environment(),
            cwd=self.settings.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def messages(self, phone: str) -> list[dict[str, Any]]:
        """Return what history has of a conversation now, oldest first."""
        _, page = await self.get(f"/v1/conversations/wa:{ACCOUNT}:{phone}/messages?limit=500")
        return list(reversed(page.get("messages", [])))

    def last_lines(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-4000:]


def _belongs(process: psutil.Process, home: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("OTTLA_HOME") == home or home in " ".join(process.cmdline())
    except psutil.Error:
        return False
