"""Starts roles out of one process that has imported all they need, so that a killed role is back at work without importing it again.

Python's imports are one to two seconds of processor time for a role, and three to five seconds of waiting where the processors are busy,
of which every conversation of a killed worker would wait all. The process is the fork server of Python's own `multiprocessing`: it has
no threads and has opened nothing, so that forking it is safe, and it starts again by itself should it be killed.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import _forkserver, ensure_running
from multiprocessing.resource_tracker import _resource_tracker
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle, setthreadtitle

from infra import fault_points

IMPORTED = (__name__, "infra.warm_imports")
_PR_SET_PDEATHSIG = 1
# In a forked process: the fork server, which has imported this.
_IMPORTER = os.getpid()
_GONE_S, _LOOK_S = 2.0, 0.01

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))

# The module looks after all its children whenever it starts one, without a lock of its own.
_lock = threading.Lock()


class WarmProcess:
    """A role that was started here; it can be asked and told what a `subprocess.Popen` can."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        """Return its exit code (negative: the signal), None while it runs."""
        with _lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code; subprocess.TimeoutExpired after `timeout` seconds."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self.send_signal(signal.SIGKILL)


def begin_imports() -> None:
    """Let the imports begin; returns at once. Whoever starts servers first has them done by the time that roles are started."""
    with _lock:
        ensure_running()


def end_imports() -> None:
    """End the fork server and its tracker, and wait for their end; what was forked and still runs is killed."""
    with _lock:
        # They would end by themselves, just after this process.
        _forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001
        _resource_tracker._stop()  # type: ignore[attr-defined]  # noqa: SLF001


def start_warm(
    words: Sequence[str], *, environment: Mapping[str, str], output: int, niceness: int = 0, folder: Path | None = None
) -> WarmProcess:
    """Start `ottla WORDS`, as in `ottla run streams`, in a session of its own, with its two outputs as one; blocks for some milliseconds.

    The first start waits until everything is imported. The process has exactly this environment, runs in `folder` (by default: here), and
    is killed when the process that calls this ends. Its command line reads as if it had been started the usual way.
    """
    ours = Connection(os.dup(output), readable=False)
    arguments = (tuple(words), dict(environment), ours, niceness, str(folder or Path.cwd()))
    try:
        return WarmProcess(_start(lambda: _context.Process(target=_become, args=arguments, name=f"ottla {' '.join(words)}", daemon=True)))
    finally:
        ours.close()


def _start(make: Callable[[], ForkServerProcess]) -> ForkServerProcess:
    """Start a process; a fork server that was killed just now takes a moment until it is known to be gone."""
    until = time.monotonic() + _GONE_S
    while True:
        process = make()
        try:
            with _lock:
                process.start()
        except (ConnectionError, EOFError):
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_S)
        else:
            return process


def _become(words: tuple[str, ...], environment: dict[str, str], output: Connection, niceness: int, folder: str) -> NoReturn:
    """Be the role, in the process that was forked for it."""
    # First of all: it looks for its room beside the environment, which is not there any more once that was changed. The environment that
    # others see stays, as that of whoever began the fork server.
    os.environ["SPT_NOENV"] = "1"
    setproctitle(" ".join((sys.executable, "-m", "infra", *words)))
    setthreadtitle(Path(sys.executable).name)
    os.setsid()
    _die_with_parent()
    os.nice(niceness)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ottla", *words]
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    # What was made of the fork server's own outputs may hold lines back.
    sys.stdout = os.fdopen(1, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    fault_points.arm()

    from infra.cli import main

    main()


def _die_with_parent() -> None:
    # The fork server ends when nobody has this open any more; each process that it forks gets it too, to ask for more.
    os.close(_forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]  # noqa: SLF001  # there is no other way
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _IMPORTER:
        # It died before the request was in place: nobody would ever send the signal.
        sys.exit(1)
