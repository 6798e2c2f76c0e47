"""Three nodes that replicate each other, of which one is killed and one is frozen: what was written is there, and nothing waits long."""

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.servers.node import Node, start_node, stop_node
from infra.settings import Settings
from tests.cassandra.replicated import plans

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

INSERT = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
SELECT = "SELECT platform_id FROM @.send_platform_ids WHERE send = ?"
AT_ONCE = 20
MORE = 300
WITHOUT_S = 30.0
"""Within which so many more rows must be written, with two nodes of three."""


@asynccontextmanager
async def nodes(home: Path) -> AsyncIterator[tuple[list[Node], list[str]]]:
    """Run three nodes; yield them with their addresses."""
    async with AsyncExitStack() as stack:
        running, addresses = [], []
        for plan, folder, address in plans(home):
            node = await start_node(plan, folder, die_with_parent=True, keep_port=True)
            stack.push_async_callback(end, node, folder)
            running.append(node)
            addresses.append(address)
        yield running, addresses


async def end(node: Node, folder: Path) -> None:
    """End a node, also if it is frozen."""
    assert node.child is not None
    node.child.send_signal(signal.SIGCONT)
    await stop_node(node.plan, folder)
    node.child.wait()


class Writing:
    """Writes numbered rows, some at once, again and again until each is acknowledged."""

    def __init__(self, cassandra: Cassandra) -> None:
        self._cassandra = cassandra
        self._numbers = itertools.count()
        self.acknowledged: set[int] = set()
        self.moved = asyncio.Event()
        self.failures = 0

    async def go_on(self) -> None:
        await asyncio.gather(*(self._write_one_by_one() for _ in range(AT_ONCE)))

    async def _write_one_by_one(self) -> None:
        for number in self._numbers:
            while number not in self.acknowledged:
                try:
                    await self._cassandra.execute(INSERT, (f"send {number}", str(number)))
                except CassandraAwayError:
                    self.failures += 1
                    await asyncio.sleep(0.1)
                else:
                    self.acknowledged.add(number)
                    self.moved.set()
            await asyncio.sleep(0.01)

    async def more(self) -> float:
        """Wait until so many more are written; return the seconds that took."""
        began_at, target = time.monotonic(), len(self.acknowledged) + MORE
        async with asyncio.timeout(WITHOUT_S):
            while len(self.acknowledged) < target:
                self.moved.clear()
                await self.moved.wait()
        return time.monotonic() - began_at


async def test_one_of_three_nodes_is_not_missed(tmp_path: Path) -> None:
    """Killed or frozen: the others take what is written, and have all that was."""
    async with nodes(tmp_path) as (running, addresses):
        settings = Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra=",".join(addresses), keyspace="three", _env_file=None)
        cassandra = await Cassandra.connect(settings)
        (row,) = await cassandra.execute("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", ("three",))
        assert row["replication"]["datacenter1"] == "3"
        writing = Writing(cassandra)
        task = asyncio.create_task(writing.go_on())
        took = [await writing.more()]
        for number, fault in ((1, signal.SIGSTOP), (1, signal.SIGCONT), (2, signal.SIGKILL)):
            child = running[number].child
            assert child is not None
            child.send_signal(fault)
            took.append(await writing.more())
            took.append(await writing.more())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        print([round(each, 1) for each in took], writing.failures)  # noqa: T201  # shown for a failing test
        numbers = sorted(writing.acknowledged)
        found = await asyncio.gather(*(cassandra.execute(SELECT, (f"send {number}",)) for number in numbers))
        assert [row["platform_id"] for (row,) in found] == [str(number) for number in numbers]
        await cassandra.close()
