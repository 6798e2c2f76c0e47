"""infra.kafka.departures: what a killed process had begun is known exactly, or it is known that it is not known."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.kafka import departures
from infra.kafka.departures import Departures, begun_by

PLACES = [("topic", 0, offset) for offset in range(4)]

pytestmark = pytest.mark.skipif(not departures._boot(), reason="this system does not tell its starts apart, so nothing counts")

KILLED = """
import os, signal, sys
from pathlib import Path
from infra.kafka.departures import Departures
held = Departures(Path(sys.argv[1]))
print(held.token, flush=True)
held.begin(("topic", 0, 7))
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def test_a_killed_process_leaves_what_it_began(tmp_path: Path) -> None:
    """After kill -9 the file says what had begun, without any help of the process."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "SIGKILL"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert begun_by(tmp_path, done.stdout.strip()) == frozenset({("topic", 0, 7)})


def test_a_paused_process_counts_like_a_killed_one(tmp_path: Path) -> None:
    """What it had begun is known; what it begins later is checked against the clock by itself."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "SIGSTOP"], stdout=subprocess.PIPE, text=True) as paused:
        try:
            assert paused.stdout is not None
            token = paused.stdout.readline().strip()
            os.waitid(os.P_PID, paused.pid, os.WSTOPPED | os.WNOWAIT)
            assert begun_by(tmp_path, token) == frozenset({("topic", 0, 7)})
        finally:
            paused.kill()


def test_what_is_given_back_or_done(tmp_path: Path) -> None:
    """What was given back has not begun; what is done may be told or not, for it has its outcome."""
    held = Departures(tmp_path)
    for place in PLACES:
        held.begin(place)
    held.give_back(PLACES[1])
    held.forget(PLACES[2])
    held.close(remove=False)
    begun = begun_by(tmp_path, held.token)
    assert begun is not None
    assert begun - {PLACES[2]} == {PLACES[0], PLACES[3]}


def test_a_long_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays small: what is done is left out of it, what is open stays, and it is locked as before."""
    monkeypatch.setattr(departures, "_LINES_MAX", 10)
    held = Departures(tmp_path)
    held.begin(("open", 0, 0))
    for offset in range(1_000):
        held.begin(("topic", 0, offset))
        held.forget(("topic", 0, offset))
    held.close(remove=False)
    assert ("open", 0, 0) in (begun_by(tmp_path, held.token) or ())
    assert (tmp_path / held.token).stat().st_size < 1_000
    assert [path.name for path in tmp_path.iterdir()] == [held.token]


def test_a_file_that_cannot_be_written_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When something cannot be noted, the file that would not tell it is removed, and the work goes on."""
    held = Departures(tmp_path)

    def full(_descriptor: int, _text: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(os, "write", full)
    held.begin(PLACES[0])
    held.begin(PLACES[1])
    assert begun_by(tmp_path, held.token) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{boot}", "another-boot\n", "{boot}\n+topic 0 1", "{boot}\n+topic 0\n", "{boot}\n\n", "{boot}\n+t 0 x\n"]
)
def test_a_file_that_says_not_enough_counts_for_nothing(tmp_path: Path, text: str) -> None:
    """Cut short, damaged, or of a time before this machine started: nothing is known."""
    token = "0123456789abcdef"
    (tmp_path / token).write_text(text.replace("{boot}", departures._boot()))
    assert begun_by(tmp_path, token) is None


@pytest.mark.parametrize("token", ["", "../0123456789abcdef", "0123456789abcdef\n", "0123456789abcdee"])
def test_a_token_of_nobody(tmp_path: Path, token: str) -> None:
    """A token that is none or has no file says nothing, and leads nowhere."""
    (tmp_path / "0123456789abcdef").write_text(f"{departures._boot()}\n")
    assert begun_by(tmp_path / "deeper" if token.startswith("..") else tmp_path, token) is None


def test_files_of_long_ago_are_removed(tmp_path: Path) -> None:
    """A new process removes the old files of the dead and leaves those of the living."""
    old, living = tmp_path / "0123456789abcdef", tmp_path / "fedcba9876543210"
    for path in (old, living):
        path.write_text("")
        os.utime(path, (1, 1))
    with living.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = Departures(tmp_path)
    held.close(remove=True)
    assert list(tmp_path.iterdir()) == [living]
