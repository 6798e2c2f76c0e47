"""infra.supervisor.keepers: what is asked of a role while it is being started is not forgotten."""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Mapping

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
