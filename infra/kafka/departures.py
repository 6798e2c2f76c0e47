"""What has begun to leave of the claims of one process: a file that outlives its kill, so that what never left need not be parked.

A process killed with claims in hand leaves two kinds: effects that began, of which nobody can know how they ended, and claims whose
commit was still on its way. The file names those that began. It counts only if nothing can have been lost of it: written since
this machine started (what a killed process wrote stays, what a machine without power wrote may not). Otherwise all may have happened.

A process that is only paused counts like a killed one: when others read its file its claims have run out, and it looks at the clock after
it has noted that an effect begins and before the effect does. A lock, which the kernel holds for as long as a process lives, keeps its
file from being cleaned away.
"""

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

Place = tuple[str, int, int]
"""Topic, partition, offset."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TOKEN = re.compile(r"[0-9a-f]{16}")
_LINES_MAX = 100_000
_KEPT_S = 86_400.0


class Departures:
    """The file of this process, named by `token`; without one (a full disk) all claims of it count as begun."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(8)
        self._path = folder / self.token
        self._begun: set[Place] = set()
        self._lines = 0
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _clean(folder)
            self._descriptor = self._written(self._path)

    def begin(self, place: Place) -> None:
        """Note that the effect of a claim begins, before it does."""
        self._begun.add(place)
        self._note("+", place)

    def give_back(self, place: Place) -> None:
        """Note that an effect that began has certainly not happened."""
        if place in self._begun:
            self._begun.discard(place)
            self._note("-", place)

    def forget(self, place: Place) -> None:
        """Drop what is done."""
        self._begun.discard(place)

    def close(self, *, remove: bool) -> None:
        """Let go of the file; `remove` it when no claim is open any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if remove:
            self._path.unlink(missing_ok=True)

    def _note(self, sign: str, place: Place) -> None:
        if self._descriptor is None:
            return
        try:
            _write(self._descriptor, _line(sign, place))
            self._lines += 1
            if self._lines >= _LINES_MAX:
                self._compact()
        except OSError:
            # Without the file nobody can take what it does not say for what did not begin.
            self.close(remove=True)

    def _compact(self) -> None:
        draft = self._path.with_suffix(".part")
        descriptor = self._written(draft)
        draft.replace(self._path)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._lines = descriptor, len(self._begun)

    def _written(self, path: Path) -> int:
        """Return the descriptor of a new, locked file of what has begun."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = b"%s\n" % _boot().encode() + b"".join(_line("+", place) for place in self._begun)
        _write(descriptor, text)
        return descriptor


def begun_by(folder: Path, token: str) -> frozenset[Place] | None:
    """Return what the process with this token had begun before its claims ran out; None if that cannot be known."""
    if not _TOKEN.fullmatch(token):
        return None
    path = folder / token
    try:
        with path.open(encoding="utf-8") as file:
            boot, *lines = file.read().split("\n")
    except (OSError, ValueError):
        return None
    if not boot or boot != _boot() or not lines or lines.pop():
        return None
    return _read(lines)


def _read(lines: Iterable[str]) -> frozenset[Place] | None:
    begun: set[Place] = set()
    try:
        for line in lines:
            topic, partition, offset = line[1:].split(" ")
            place = (topic, int(partition), int(offset))
            if line[0] == "+":
                begun.add(place)
            else:
                begun.discard(place)
    except (ValueError, IndexError):
        return None
    return frozenset(begun)


def _write(descriptor: int, text: bytes) -> None:
    if os.write(descriptor, text) != len(text):
        raise OSError("written in part")


def _line(sign: str, place: Place) -> bytes:
    topic, partition, offset = place
    return f"{sign}{topic} {partition} {offset}\n".encode()


def _boot() -> str:
    """Return what tells this start of this machine from others; empty where the kernel does not say."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _clean(folder: Path) -> None:
    """Remove files of processes that ended long ago."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime > _KEPT_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
