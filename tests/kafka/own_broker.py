"""A broker of a test's own, to be killed and paused."""

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.servers.kafka import KAFKA
from infra.servers.node import Node, start_node, stop_node


class OwnBroker:
    """A running broker; it keeps its port over restarts."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder = folder
        self._node = node

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return self._node.address

    @property
    def _child(self) -> subprocess.Popen[bytes]:
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
        """Start it again; returns when it serves."""
        self._node = await start_node(KAFKA, self._folder, die_with_parent=True, keep_port=True)


@asynccontextmanager
async def own_broker(folder: Path) -> AsyncIterator[OwnBroker]:
    """Run a broker whose files are in `folder`; it is gone afterwards, also if it was paused."""
    broker = OwnBroker(folder, await start_node(KAFKA, folder, die_with_parent=True))
    try:
        yield broker
    finally:
        broker.go_on()
        await stop_node(KAFKA, folder)
        broker._child.wait()
