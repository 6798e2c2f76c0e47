"""infra.supervisor.keepers: what is asked of a role while it is being started is not forgotten."""

import asyncio
import io
import signal
import sys
import threading
import time
from collections.abc import Mapping

import pytest

from infra.children import Child, spawn
from infra.supervisor.keepers import RoleKeeper
from infra.supervisor.printing import Printer
from infra.supervisor.roles import Role


async def test_stopped_while_it_is_being_started() -> None:
    """The process that comes of it is asked to end at once, and not killed when the time is over."""
    starting, go_on = asyncio.Event(), threading.Event()
    loop, children = asyncio.get_running_loop(), []

    def start(_: Role, environment: Mapping[str, str], output: int) -> Child:
        loop.call_soon_threadsafe(starting.set)
        go_on.wait(10)
        command = (sys.executable, "-c", "import time; time.sleep(60)")
        children.append(spawn(command, environment=environment, output=output, die_with_parent=None))
        return children[-1]

    role = Role("it", ("run", "it"), 1)
    keeper = RoleKeeper(role, environment=lambda _: {}, printer=Printer(sys.stdout, colour=False), on_change=lambda: None, start=start)
    keeper.start()
    await starting.wait()
    stopping = asyncio.create_task(keeper.stop(until=time.monotonic() + 20))
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert [child.poll() for child in children] == [-signal.SIGTERM]


@pytest.mark.parametrize("error", [EOFError(), RuntimeError("can't start new thread"), OSError(12, "Cannot allocate memory")])
async def test_what_cannot_be_started_is_tried_again(error: Exception) -> None:
    """The process that roles are forked from may be gone, or there is no memory for a moment: the role comes when there is."""
    tries: list[int] = []
    running = asyncio.Event()
    loop, shown = asyncio.get_running_loop(), io.StringIO()

    def start(_: Role, environment: Mapping[str, str], output: int) -> Child:
        tries.append(1)
        if len(tries) == 1:
            raise error
        loop.call_soon_threadsafe(running.set)
        return spawn((sys.executable, "-c", "import time; time.sleep(60)"), environment=environment, output=output, die_with_parent=None)

    role = Role("it", ("run", "it"), 1)
    keeper = RoleKeeper(role, environment=lambda _: {}, printer=Printer(shown, colour=False), on_change=lambda: None, start=start)
    keeper.start()
    async with asyncio.timeout(20):
        await running.wait()
    await keeper.stop(until=time.monotonic() + 20)
    assert "it cannot be started: " in shown.getvalue()
    assert len(tries) == 2
