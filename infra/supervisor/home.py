"""One `ottla up` per OTTLA_HOME: its lock, and the children that an earlier one left behind."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from infra import children
from infra.errors import OttlaError

_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Recorded:
    """A child of `up` as written down: enough to know it again, and where it answers."""

    name: str
    pid: int
    mark: str
    port: int


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of this home, which the kernel frees however we end; OttlaError if another `up` holds it."""
    path = home / "run" / "up.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise OttlaError(f"OTTLA_HOME={home} cannot be used: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise OttlaError(
                f"`ottla up` already runs in OTTLA_HOME={home} (process {lock.read() or 'unknown'}): stop it or set another OTTLA_HOME."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def record_children(home: Path, recorded: Sequence[Recorded]) -> None:
    """Write down which children run now; read by the next `up` and by who wants their metrics."""
    path = _path(home)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps([asdict(child) for child in recorded]), encoding="utf-8")
    draft.replace(path)


def recorded_children(home: Path) -> list[Recorded]:
    """Return the children that are written down and still run."""
    try:
        found = [Recorded(**child) for child in json.loads(_path(home).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
    return [child for child in found if children.is_alive(child.pid, child.mark)]


async def stop_leftovers(home: Path) -> list[str]:
    """Stop what an `up` that was killed left behind, only what is proven to be its own; return the names."""
    left = recorded_children(home)
    await asyncio.gather(*(children.stop_process(child.pid, child.mark, patience_s=_PATIENCE_S) for child in left))
    return [child.name for child in left]


def _path(home: Path) -> Path:
    return home / "run" / "roles.json"
