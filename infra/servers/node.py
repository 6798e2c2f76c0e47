"""Start and stop one local server: configuration, storage, child process, readiness, state file."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infra import children
from infra.errors import ServerError
from infra.servers.causes import PortTakenError, check_room, why_not_started
from infra.servers.plan import Plan, java_command, java_environment
from infra.servers.state import ServerState, free_ports, is_free, read_state, write_state

READY_S = 120.0
STOP_S = 6.0
_ASK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Node:
    """A running server; `child` is None when another process started it."""

    plan: Plan
    state: ServerState
    child: subprocess.Popen[bytes] | None

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return self.state.address


async def start_node(plan: Plan, home: Path, *, die_with_parent: bool, keep_port: bool = False, jvm_options: Sequence[str] = ()) -> Node:
    """Start a server, or find the one that runs already, and wait until it serves.

    With `die_with_parent` it stops when the calling process ends in whatever way (Linux; elsewhere the next start cleans up).
    With `keep_port` a taken port is an error; without, another one is chosen, since then nobody has been told the old one.
    `jvm_options` come behind those of the plan, which they override.

    Raises ServerError with one sentence.
    """
    state = read_state(home, plan.name)
    if state and state.kept:
        return await _wait_until_serving(Node(plan, state, None), home)
    # Either its starter died without stopping it, or the state file went away under it: nobody else ever will.
    await _stop_strays(plan, home, patience_s=STOP_S)
    for attempt in range(3):
        state = _with_ports(plan, read_state(home, plan.name), keep_port=keep_port)
        try:
            return await _start(plan, home, state, die_with_parent=die_with_parent, jvm_options=jvm_options)
        except PortTakenError:
            if keep_port or attempt == 2:  # noqa: PLR2004 - the last of three
                raise
            # Somebody took it between our look and the server's; the look of the next round sees that.
    raise AssertionError


def _with_ports(plan: Plan, state: ServerState | None, *, keep_port: bool) -> ServerState:
    if state and is_free(state.port) and is_free(state.inner_port):
        return state.stopped()
    if state and keep_port and not is_free(state.port):
        raise PortTakenError(f"{plan.title} cannot start: something else listens on its port 127.0.0.1:{state.port}.")
    port, inner_port = free_ports(2)
    return ServerState(port=state.port if state and keep_port else port, inner_port=inner_port)


async def _start(plan: Plan, home: Path, state: ServerState, *, die_with_parent: bool, jvm_options: Sequence[str]) -> Node:
    try:
        _make_folders(plan, home)
        check_room(home)
        arguments = plan.configure(home, state)
        await _format(plan, home, arguments)
        command = java_command(plan, home, arguments, jvm_options=jvm_options)
        child = _spawn(plan, home, command, die_with_parent=die_with_parent)
    except OSError as error:
        raise ServerError(f"OTTLA_HOME={home} cannot be used for {plan.title}: {error.strerror or error}.") from None
    owner = os.getpid() if die_with_parent else 0
    running = replace(
        state,
        pid=child.pid,
        mark=children.start_mark(child.pid) or "",
        owner_pid=owner,
        owner_mark=children.start_mark(owner) or "" if owner else "",
    )
    write_state(home, plan.name, running)
    try:
        return await _wait_until_serving(Node(plan, running, child), home)
    except BaseException:
        await asyncio.shield(stop_node(plan, home))
        child.poll()
        raise


def _make_folders(plan: Plan, home: Path) -> None:
    scratch = plan.folder(home) / "tmp"
    for folder in (home / "logs", home / "run", plan.folder(home), scratch):
        folder.mkdir(parents=True, exist_ok=True)
    # Native libraries unpacked by a server that was killed.
    for left in scratch.iterdir():
        if left.is_file():
            left.unlink()
    log = plan.log(home)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def _spawn(plan: Plan, home: Path, command: list[str], *, die_with_parent: bool) -> subprocess.Popen[bytes]:
    with plan.log(home).open("ab") as log:
        return children.spawn(
            command,
            environment=java_environment(),
            output=log,
            folder=plan.folder(home),
            # Politely, so that the data is closed: the next start is quick, and waits for the end of what still runs.
            die_with_parent=signal.SIGTERM if die_with_parent else None,
        )


async def _format(plan: Plan, home: Path, arguments: Sequence[str]) -> None:
    main_class, *rest = (plan.format_command(home) if plan.format_command else ()) or [""]
    if not main_class:
        return
    command = java_command(plan, home, [*rest, *arguments], main_class=main_class)
    child = _spawn(plan, home, command, die_with_parent=True)
    try:
        code = await children.wait_exit(child)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if code:
        raise why_not_started(plan, home, code, 0)


async def _wait_until_serving(node: Node, home: Path) -> Node:
    """Wait for the first answer; ServerError if the process ends before it, or if none comes for two minutes."""
    deadline = time.monotonic() + READY_S
    while not await node.plan.serves(node.state.port):
        code = node.child.poll() if node.child else (None if node.state.alive else 1)
        if code is not None:
            raise why_not_started(node.plan, home, code, node.state.port)
        if time.monotonic() > deadline:
            raise ServerError(f"{node.plan.title} did not answer within {READY_S:.0f} s: {node.plan.log(home)} may say why.")
        await asyncio.sleep(_ASK_AGAIN_S)
    if node.child is None:
        return node
    # Something else may have answered on that port while our own process failed to get it.
    if node.child.poll() is not None:
        raise why_not_started(node.plan, home, node.child.returncode, node.state.port)
    ready = replace(node.state, ready=True)
    write_state(home, node.plan.name, ready)
    return replace(node, state=ready)


async def stop_node(plan: Plan, home: Path, *, patience_s: float = STOP_S) -> bool:
    """Stop a server whoever started it, killing it after `patience_s`; return whether one ran."""
    state, stopped = read_state(home, plan.name), await _stop_strays(plan, home, patience_s=patience_s)
    if state and state.pid:
        write_state(home, plan.name, state.stopped())
    return stopped


async def _stop_strays(plan: Plan, home: Path, *, patience_s: float) -> bool:
    """Stop every process that runs on this data, written down or not; return whether there was one."""
    found = set(children.running_with(f"@{plan.arguments(home)}"))
    state = read_state(home, plan.name)
    if state and state.alive:
        found.add((state.pid, state.mark))
    await asyncio.gather(*(children.stop_process(pid, mark, patience_s=patience_s) for pid, mark in found))
    return bool(found)
