"""infra.fault_points: every point and safeguard in the code has its name in the list, and nothing of it is on by accident."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra import fault_points
from infra.clock import SystemClock
from infra.fault_points import POINTS, SAFEGUARDS, VARIABLE, Faults, parse
from tests.test_architecture import modules

PACKAGES = ("infra", "ingress", "streams", "sinks")


def names(function: str) -> list[str]:
    """Return what the code gives to a function by name; what is no literal is shown as such."""
    return [found for package in PACKAGES for path in modules(package) for found in _names(path, function)]


def _names(path: Path, function: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            (given,) = node.args
            yield str(given.value) if isinstance(given, ast.Constant) else ast.unparse(given)


def test_every_point_is_listed_and_stands_in_one_place() -> None:
    """The parametrised test of crashes goes by the list: a point it lacks would never be tried."""
    assert sorted(names("point")) == sorted(POINTS)


def test_every_safeguard_is_listed() -> None:
    """A switch for each safeguard, and a safeguard for each switch."""
    assert set(names("without")) == set(SAFEGUARDS)


def test_nothing_is_on_without_the_variable() -> None:
    """What the code calls then does nothing."""
    assert fault_points._armed is None
    for name in POINTS:
        fault_points.point(name)
    assert not any(fault_points.without(safeguard) for safeguard in SAFEGUARDS)
    assert (fault_points.clock_offset_ms(), fault_points.record_timestamp_ms()) == (0, 0)


def test_words_are_read() -> None:
    """Each word sets one thing; a word, point or safeguard that does not exist is refused."""
    assert parse("") == Faults()
    assert parse("crash=sender.claimed:3 without=claim,dedupe clock=-1.5 block=2 file=/x") == Faults(
        crash=("sender.claimed", 3), without=frozenset({"claim", "dedupe"}), clock_ms=-1500, block_s=2.0, file="/x"
    )
    assert parse("stop=streams.decoded").stop == ("streams.decoded", 1)
    for wrong in ("crash=nowhere", "without=luck", "anything"):
        with pytest.raises(ValueError, match=wrong.rpartition("=")[2]):
            parse(wrong)


def run(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with an environment of ours on top."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_crash_is_a_kill_at_the_nth_time(tmp_path: Path) -> None:
    """The file is read anew: twice nothing, then the words come, and the second time after that is the last."""
    file = tmp_path / "words"
    code = (
        "from infra.fault_points import point\n"
        "for n in range(5):\n"
        f"    if n == 2: open({str(file)!r}, 'w').write('crash=sender.claimed:2')\n"
        "    print(n, flush=True)\n"
        "    point('sender.claimed')\n"
    )
    done = run(code, {VARIABLE: f"file={file}"})
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2", "3"])
    assert "SIGKILL at sender.claimed" in done.stderr


def test_the_clock_is_off_by_so_much() -> None:
    """The wall clock and the timestamps of records are a day ahead, monotonic time is not."""
    code = (
        "import time\n"
        "from infra.clock import SystemClock\n"
        "from infra.fault_points import record_timestamp_ms\n"
        "print(SystemClock().now_ms(), record_timestamp_ms(), SystemClock().monotonic() - time.monotonic())"
    )
    now_ms = SystemClock().now_ms()
    shown, stamp, difference = run(code, {VARIABLE: "clock=86400"}).stdout.split()
    assert int(shown) - now_ms >= 86_400_000
    assert int(stamp) - now_ms >= 86_400_000
    assert abs(float(difference)) < 1


def test_a_broker_elsewhere_is_refused() -> None:
    """No installation but one on loopback is ever broken on purpose: one sentence, exit code 4."""
    environment = {VARIABLE: "without=claim", "OTTLA_KAFKA": "127.0.0.1:9092,192.0.2.1:9092", "OTTLA_CASSANDRA": "127.0.0.1:9042"}
    code = "import sys; sys.argv = ['ottla', 'run', 'sinks']; from infra.cli import main; main()"
    done = run(code, environment)
    assert (done.returncode, done.stderr.strip().count("\n")) == (4, 0), done.stderr
    assert VARIABLE in done.stderr
