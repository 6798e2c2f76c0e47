"""A supervisor under test: started, read line by line, and never left behind."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from infra.servers.state import free_ports

_ENOUGH_S = 90


class Running:
    """`fake_up` as a process in a home of its own."""

    def __init__(self, home: Path, *habits: str, environment: Mapping[str, str]) -> None:
        self.home, self.journal_path = home, home / "journal"
        self.port = int(environment.get("OTTLA_PORT") or free_ports(1)[0])
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.supervisor.fake_up", str(self.journal_path), *habits],
            env={**os.environ, "OTTLA_HOME": str(home), "OTTLA_PORT": str(self.port), "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Kill whatever is left."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in self.left():
            process.kill()
        self._reader.join(_ENOUGH_S)
        if self.process.stdout:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, *parts: str) -> str:
        """Read lines until each of these was in one, in any order, and return the last line read."""
        missing = set(parts)
        while (line := self._queue.get(timeout=_ENOUGH_S)) is not None:
            self.lines.append(line)
            missing = {part for part in missing if part not in line}
            if not missing:
                return line
        raise AssertionError(f"it ended without {missing}: {self.lines}")

    def end(self, *, within_s: float = _ENOUGH_S) -> int:
        """Wait for its end and return its exit code."""
        code = self.process.wait(timeout=within_s)
        while (line := self._queue.get(timeout=_ENOUGH_S)) is not None:
            self.lines.append(line)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and wait for that, at most the ten seconds that it may take."""
        self.process.send_signal(number)
        return self.end(within_s=10)

    def journal(self, what: str) -> list[dict[str, Any]]:
        """Return what the roles noted: their starts or their ends, in order."""
        notes = [json.loads(line) for line in self.journal_path.read_text().splitlines()]
        return [note for note in notes if note["what"] == what]

    def pid_of(self, name: str) -> int:
        """Return the process that a role has now."""
        return int([note for note in self.journal("start") if note["name"] == name][-1]["pid"])

    def left(self) -> list[psutil.Process]:
        """Return every process, other than the supervisor, that belongs to this home."""
        return [process for process in psutil.process_iter() if process.pid != self.process.pid and self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and str(self.home) in " ".join(process.cmdline())
        except psutil.Error:
            return False
