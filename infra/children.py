"""Child processes: start them so that none is left behind, know them again by pid and start time, wait for them, stop them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.05


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    die_with_parent: signal.Signals | None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its two outputs as one.

    A session of its own, so that Ctrl-C reaches the supervisor alone and it can stop its children in order. With
    `die_with_parent`, the kernel sends that signal when the calling *thread* ends, so call this from the main thread.
    """
    if die_with_parent is not None:
        command = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(die_with_parent)), *command]
    return subprocess.Popen(  # noqa: S603 - the command is made by us
        command,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def start_mark(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid, None if there is no such living process."""
    return _mark_from_proc(pid) if Path("/proc/self/stat").exists() else _mark_from_ps(pid)


def _mark_from_proc(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # After the name: fields[0] is the state, fields[19] the start in ticks since boot. A zombie holds nothing any more.
    return None if fields[0] in ("Z", "X") else fields[19]


def _mark_from_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()  # noqa: S603 - fixed, and a number
    return None if not shown or shown[0].startswith("Z") else " ".join(shown[1:])


def is_alive(pid: int, mark: str) -> bool:
    """Whether the very process that had this mark still runs."""
    return start_mark(pid) == mark


def running_with(argument: str) -> list[tuple[int, str]]:
    """Return pid and mark of every process of ours that was started with exactly this argument."""
    shown = _all_commands_from_proc() if Path("/proc/self/stat").exists() else _all_commands_from_ps()
    found = [pid for pid, arguments in shown if argument in arguments]
    return [(pid, mark) for pid in found if (mark := start_mark(pid))]


def _all_commands_from_proc() -> list[tuple[int, list[str]]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid():
                found.append((int(path.parent.name), os.fsdecode(path.read_bytes()).split("\0")))
    return found


def _all_commands_from_ps() -> list[tuple[int, list[str]]]:
    command = ["ps", "-x", "-o", "pid=,command="]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()  # noqa: S603 - fixed
    return [(int(line.split()[0]), line.split()[1:]) for line in lines if line.strip()]


class Child(Protocol):
    """A child process, as `subprocess.Popen` is one; `poll` returns its exit code once it has ended (negative: the signal)."""

    pid: int

    def poll(self) -> int | None: ...  # noqa: D102

    def terminate(self) -> None: ...  # noqa: D102

    def kill(self) -> None: ...  # noqa: D102


async def wait_exit(child: Child) -> int:
    """Wait until a child of ours ends and return its exit code (negative: the signal)."""
    while (code := child.poll()) is None:
        await _ended(child.pid)
    return code


async def wait_gone(pid: int, mark: str) -> None:
    """Wait until a process ends that need not be a child of ours."""
    while is_alive(pid, mark):
        await _ended(pid)


async def stop_process(pid: int, mark: str, *, patience_s: float) -> None:
    """Ask a process to end, kill it after `patience_s`; only if it is proven to be the one with this mark."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        if not is_alive(pid, mark):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await wait_gone(pid, mark)


async def _ended(pid: int) -> None:
    """Wait for the end of a process where the kernel can tell, else for a moment."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        await asyncio.sleep(_POLL_S)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def describe_exit(code: int) -> str:
    """Say how a process ended: `exit code 1` or `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
