"""What keeps processes going, and the proxy that is slow: each with a real process or connection."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from infra.children import spawn
from tests.torture.keeper import RESTART_S, Keeper
from tests.torture.proxy import SlowProxy

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
ECHO_S = 0.5


@pytest.fixture
def said() -> list[str]:
    """Collect what a keeper says."""
    return []


@pytest_asyncio.fixture
async def keeper(said: list[str]) -> AsyncIterator[Keeper]:
    """Give a keeper of a process that does nothing."""

    async def start() -> subprocess.Popen[bytes]:
        return spawn(SLEEPER, environment={}, output=subprocess.DEVNULL, die_with_parent=signal.SIGKILL)

    keeper = Keeper("sleeper", start, said.append)
    yield keeper
    await keeper.close()


async def test_what_is_killed_is_started_again_without_a_word(keeper: Keeper, said: list[str]) -> None:
    """A death by a fault is told by the fault."""
    keeper.want()
    await keeper.send(signal.SIGKILL)
    await _until(lambda: keeper.starts == 2 and keeper.is_running)
    assert said == []


async def test_what_ends_by_itself_is_told_and_started_again(said: list[str]) -> None:
    """A process that nobody has killed ends: the log says so, with its exit code."""

    async def start() -> subprocess.Popen[bytes]:
        return spawn((sys.executable, "-c", "raise SystemExit(3)"), environment={}, output=subprocess.DEVNULL, die_with_parent=None)

    keeper = Keeper("brief", start, said.append)
    keeper.want()
    await _until(lambda: keeper.starts == 2)
    await keeper.close()
    assert said[0] == f"brief ended by itself (exit code 3): starting it again in {RESTART_S:g} s"


async def test_what_is_let_end_stays_ended(keeper: Keeper) -> None:
    """A worker that leaves is not started again until it is wanted again."""
    keeper.want()
    await keeper.running()
    keeper.let_end()
    await keeper.end(signal.SIGTERM, patience_s=10)
    await asyncio.sleep(2 * RESTART_S)
    assert (keeper.starts, keeper.is_running) == (1, False)
    keeper.want()
    await keeper.running()
    assert keeper.starts == 2


async def test_who_has_ended_it_waits_for_the_next_one(keeper: Keeper) -> None:
    """What was ended does not count as running any more, whoever of those that wait for the end comes first."""
    for number in range(1, 4):
        keeper.want()
        await keeper.running()
        assert keeper.starts == number
        keeper.let_end()
        await keeper.end(signal.SIGKILL, patience_s=10)
        assert not keeper.is_running


async def test_closing_kills_also_what_is_paused(keeper: Keeper) -> None:
    """Nothing is left behind."""
    keeper.want()
    await keeper.send(signal.SIGSTOP)
    await keeper.close()
    assert keeper._child is not None
    assert keeper._child.poll() == -signal.SIGKILL


async def test_the_proxy_passes_on_and_can_be_slow() -> None:
    """What the server says comes as it is, and later when it is to."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, SlowProxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for delay_s in (0.0, ECHO_S):
            proxy.delay_s = delay_s
            asked_at = time.monotonic()
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            assert time.monotonic() - asked_at >= delay_s
        writer.close()


async def test_the_proxy_ends_a_connection_whose_other_side_is_not_there() -> None:
    """As a port on which nobody listens does."""
    nobody = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
    port = nobody.sockets[0].getsockname()[1]
    nobody.close()
    async with SlowProxy(port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a process is what is waited for
            await asyncio.sleep(0.05)
