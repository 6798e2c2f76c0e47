"""Brokers of a test's own, to be killed and paused: one, or several that replicate each other."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from infra.servers.kafka import KAFKA
from infra.servers.node import Node, start_node, stop_node
from infra.servers.plan import Plan
from infra.servers.state import read_state
from tests.kafka.replicated import plans


class OwnBroker:
    """A running broker; it keeps its port over restarts."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._node: Node | None = None

    @property
    def address(self) -> str:
        """Where clients reach it."""
        assert self._node is not None
        return self._node.address

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        assert self._node is not None
        assert self._node.child is not None
        return self._node.child

    def kill(self) -> None:
        """Kill it, and return when it is gone."""
        self._child.kill()
        self._child.wait()

    def pause(self) -> None:
        """Stop it where it stands."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._child.send_signal(signal.SIGCONT)

    async def start(self) -> None:
        """Start it, or start it again; returns when it serves."""
        is_known = read_state(self._folder, self._plan.name) is not None
        self._node = await start_node(self._plan, self._folder, die_with_parent=True, keep_port=is_known)

    async def end(self) -> None:
        """End it, also if it is paused."""
        if self._node is not None:
            self.go_on()
            await stop_node(self._plan, self._folder)
            self._child.wait()


@asynccontextmanager
async def own_broker(folder: Path) -> AsyncIterator[OwnBroker]:
    """Run a broker whose files are in `folder`; it is gone afterwards."""
    async with _running([OwnBroker(KAFKA, folder)]) as (broker,):
        yield broker


@asynccontextmanager
async def own_brokers(folder: Path) -> AsyncIterator[Sequence[OwnBroker]]:
    """Run three brokers that replicate each other."""
    async with _running([OwnBroker(plan, home) for plan, home in plans(folder)]) as brokers:
        yield brokers


@asynccontextmanager
async def _running(brokers: Sequence[OwnBroker]) -> AsyncIterator[Sequence[OwnBroker]]:
    async with AsyncExitStack() as stack:
        for broker in brokers:
            stack.push_async_callback(broker.end)
        async with asyncio.TaskGroup() as group:
            for broker in brokers:
                group.create_task(broker.start())
        yield brokers
