"""Keep one child running: a role or a local server."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra import children
from infra.errors import OttlaError
from infra.servers.node import Node, start_node, stop_node
from infra.supervisor.backoff import MANY, Backoff
from infra.supervisor.home import Recorded
from infra.supervisor.pipes import LinePipe
from infra.supervisor.printing import Printer
from infra.supervisor.roles import Role
from infra.warm import start_warm

_LAST_LINES_S = 0.5

StartRole = Callable[[Role, Mapping[str, str], int], children.Child]
"""Starts a role with an environment and a file descriptor for what it says, in a session of its own, to be killed with this process."""


def start_role(role: Role, environment: Mapping[str, str], output: int) -> children.Child:
    """Start a role as it is always started."""
    return start_warm(role.words, environment=environment, output=output, niceness=role.niceness)


class RoleKeeper:
    """Runs a role and starts it again whenever it ends, until it is told to stop.

    `environment` is asked before each start; `on_change` is called whenever another process is running. `start` is called in a thread.
    """

    def __init__(
        self,
        role: Role,
        *,
        environment: Callable[[Role], Mapping[str, str]],
        printer: Printer,
        on_change: Callable[[], None],
        start: StartRole = start_role,
    ) -> None:
        self.role = role
        self.recorded: Recorded | None = None
        self._environment, self._printer, self._on_change, self._start = environment, printer, on_change, start
        self._child: children.Child | None = None
        self._backoff = Backoff()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the role running."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self, *, until: float) -> None:
        """Ask it to finish its work, kill it at `until` (monotonic seconds), and wait for its end."""
        self._stopping.set()
        if not self._task:
            return
        if self._child and self._child.poll() is None:
            self._child.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await asyncio.shield(self._task)
        if not self._task.done():
            self._printer.say("warning", f"{self.role.name} was still at work and is killed")
            self.kill()
            await self._task

    def kill(self) -> None:
        """Kill it with all that it started, now."""
        if self._child and self._child.poll() is None:
            try:
                # It leads a session of its own, so this is its group and nobody else's.
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._child.kill()

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code = await self._run_once()
            except Exception as error:  # noqa: BLE001  # whatever it is, also of the process that is forked from: it may be over soon
                self._printer.say("error", f"{self.role.name} cannot be started: {_reason(error)}")
                code = 1
            if self._stopping.is_set():
                return
            wait_s = self._backoff.after(time.monotonic() - began)
            how = children.describe_exit(code)
            self._printer.say("warning", f"{self.role.name} died ({how}): starting it again in {wait_s:g} s")
            if self._backoff.hopeless:
                self._printer.say("error", f"{self.role.name} ended {MANY} times within seconds; its lines above may say why")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    async def _run_once(self) -> int:
        pipe = LinePipe(lambda line: self._printer.child_line(self.role.name, line))
        try:
            self._child = await asyncio.to_thread(self._start, self.role, self._environment(self.role), pipe.write_end)
        finally:
            pipe.handed_over()
        mark = children.start_mark(self._child.pid) or ""
        self.recorded = Recorded(self.role.name, self._child.pid, mark, self.role.port)
        self._on_change()
        if self._stopping.is_set():
            # Asked to stop while it was being started, when there was nobody yet to pass that on to.
            self._child.terminate()
        code = await children.wait_exit(self._child)
        await pipe.drain(patience_s=_LAST_LINES_S)
        self.recorded = None
        self._on_change()
        return code


class ServerKeeper:
    """Watches a local server and starts it again, on the port that the roles know, when it dies."""

    def __init__(self, node: Node, home: Path, printer: Printer) -> None:
        self._node, self._home, self._printer = node, home, printer
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self, *, until: float) -> None:
        """Stop the server if it is ours, killing it at `until` (monotonic seconds); one that ran before us stays."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        child = self._node.child
        if child:
            await stop_node(self._node.plan, self._home, patience_s=max(0.1, until - time.monotonic()))
            child.wait()

    async def _keep(self) -> None:
        title = self._node.plan.title
        while True:
            began = time.monotonic()
            how = await self._end()
            wait_s = self._backoff.after(time.monotonic() - began)
            self._printer.say("warning", f"{title} died ({how}): starting it again in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            try:
                self._node = await start_node(self._node.plan, self._home, die_with_parent=True, keep_port=True)
            except Exception as error:  # noqa: BLE001  # without a process or room on the disk it goes on as well
                self._printer.say("error", str(error) if isinstance(error, OttlaError) else f"{title} cannot be started: {_reason(error)}")
            else:
                self._printer.say("info", f"{title} is back on {self._node.address}")

    async def _end(self) -> str:
        """Wait for its end and say how it ended."""
        if self._node.child:
            return children.describe_exit(await children.wait_exit(self._node.child))
        await children.wait_gone(self._node.state.pid, self._node.state.mark)
        return "it was started by another command"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__} {error}".strip()
