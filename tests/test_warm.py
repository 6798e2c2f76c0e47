"""infra.warm: a role that was forked is what it would have been started the usual way, and leaves nothing behind."""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra import warm, warm_imports
from infra.children import start_mark, wait_gone
from infra.cli.run import _ROLES
from infra.servers.state import free_ports
from infra.warm import WarmProcess, start_warm

Start = Callable[..., WarmProcess]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return where the processes of a test write."""
    return tmp_path / "output"


@pytest.fixture
def start(output: Path, tmp_path: Path) -> Iterator[Start]:
    """Return what starts a process with an environment of ours on top; all are killed in the end."""
    started = []

    def begin(*words: str, niceness: int = 0, **environment: str) -> WarmProcess:
        with output.open("ab") as file:
            every = {**os.environ, "OTTLA_HOME": str(tmp_path), **environment}
            started.append(start_warm(words, environment=every, output=file.fileno(), niceness=niceness, folder=tmp_path))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.wait(10)


def test_it_is_what_the_usual_way_would_have_made(start: Start, output: Path, tmp_path: Path) -> None:
    """Its command line, session, folder, niceness and environment, from a process of one thread; SIGTERM ends it with exit code 0."""
    (port,) = free_ports(1)
    os.mkfifo(output)
    with os.fdopen(os.open(output, os.O_RDONLY | os.O_NONBLOCK)) as lines:
        began = start("run", "simulator", niceness=3, OTTLA_SIMULATOR_PORT=str(port))
        os.set_blocking(lines.fileno(), True)
        assert any(f"127.0.0.1:{port}" in line for line in lines)
    process = psutil.Process(began.pid)
    assert " ".join(process.cmdline()).rstrip().endswith("-m infra run simulator")
    assert process.name() == Path(sys.executable).name
    assert "PATH" in process.environ()
    assert os.getsid(began.pid) == began.pid
    assert (process.cwd(), process.nice()) == (str(tmp_path), psutil.Process().nice() + 3)
    parent = process.parent()
    assert parent is not None
    assert parent.num_threads() == 1
    assert began.poll() is None
    began.terminate()
    assert began.wait(10) == 0


def test_what_it_says_and_its_exit_code(start: Start, output: Path) -> None:
    """Both are those of the command, for a mistake too."""
    assert start("--version").wait(30) == 0
    assert output.read_text().startswith("ottla ")
    assert start("run", "nothing").wait(30) == 2
    assert "--help" in output.read_text()


def test_faults_are_those_of_its_own_environment(start: Start, output: Path) -> None:
    """The words of tests reach a process whose modules were imported without them."""
    began = start("run", "streams", OTTLA_TEST_FAULTS="crash=streams.decoded", OTTLA_KAFKA="192.0.2.1:9092")
    assert began.wait(60) == 4
    assert "OTTLA_TEST_FAULTS is for tests" in output.read_text()


def test_killed_it_can_be_started_again(start: Start) -> None:
    """A kill is seen as one, and told to nobody else."""
    for _ in range(2):
        began = start("run", "simulator", OTTLA_SIMULATOR_PORT=str(free_ports(1)[0]))
        with pytest.raises(subprocess.TimeoutExpired):
            began.wait(0.01)
        began.kill()
        assert began.wait(10) == -signal.SIGKILL
        began.terminate()


async def test_without_its_fork_server_it_ends_and_another_one_begins(start: Start) -> None:
    """Whoever keeps it sees the end, and can start it again at once."""
    began = start("run", "simulator", OTTLA_SIMULATOR_PORT=str(free_ports(1)[0]))
    mark = start_mark(began.pid)
    parent = psutil.Process(began.pid).parent()
    assert parent is not None
    parent.kill()
    assert began.wait(10) != 0
    assert start("--version").wait(60) == 0
    if mark is not None:
        await asyncio.wait_for(wait_gone(began.pid, mark), 60)


async def test_it_dies_with_who_started_it(tmp_path: Path, output: Path) -> None:
    """Also when that is killed and cannot see to it."""
    program = (
        "import os, sys, time; from infra.warm import start_warm\n"
        "print(start_warm(('run', 'simulator'), environment=dict(os.environ), output=2).pid, flush=True)\n"
        "time.sleep(60)"
    )
    with output.open("wb") as file:
        parent = subprocess.Popen(  # noqa: ASYNC220  # nothing else goes on meanwhile
            [sys.executable, "-c", program],
            env={**os.environ, "OTTLA_HOME": str(tmp_path), "OTTLA_SIMULATOR_PORT": str(free_ports(1)[0])},
            stdout=subprocess.PIPE,
            stderr=file,
        )
        with parent:
            assert parent.stdout is not None
            role = int(parent.stdout.readline())
            mark = start_mark(role)
            assert mark is not None
            parent.kill()
    await asyncio.wait_for(wait_gone(role, mark), 60)


def test_everything_is_imported() -> None:
    """Every role's module is, and no name leads nowhere: the fork server says nothing of what it cannot import."""
    for name in warm.IMPORTED:
        importlib.import_module(name)
    assert {f"infra.{role}.run" if role == "simulator" else f"{role}.run" for role in _ROLES} == set(warm_imports.ROLES)
