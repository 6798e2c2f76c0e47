"""The local servers of one OTTLA_HOME: start them side by side, stop them, see them, find their addresses."""

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import ServerError
from infra.servers.cassandra import CASSANDRA
from infra.servers.jars import fetch_jars
from infra.servers.kafka import KAFKA
from infra.servers.node import Node, start_node, stop_node
from infra.servers.plan import Plan
from infra.servers.state import read_state
from infra.settings import Settings

PLANS: tuple[Plan, ...] = (KAFKA, CASSANDRA)
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True)
class Servers:
    """Where Kafka and Cassandra are, and the local nodes among them (none for addresses that were set)."""

    home: Path
    kafka: str
    cassandra: str
    nodes: tuple[Node, ...] = ()

    async def stop(self) -> None:
        """Stop the nodes that this start began; leave those that ran before."""
        begun = [node for node in self.nodes if node.child]
        await stop_servers(self.home, only=[node.plan.name for node in begun])
        for node in begun:
            if node.child:
                node.child.wait()


@dataclass(frozen=True)
class ServerStatus:
    """One server as `infra status` shows it; `state` is running, starting or stopped."""

    name: str
    state: str
    address: str
    pid: int
    memory_mb: int
    started_by: str
    log: str


async def start_servers(settings: Settings, *, only: Iterable[str] = (), die_with_parent: bool, jvm_options: Sequence[str] = ()) -> Servers:
    """Start those of Kafka and Cassandra that no setting names, and wait until they serve; what runs already is used.

    `only` limits it to some of `kafka`, `cassandra`; `jvm_options` come behind the servers' own, which they override. Raises ServerError
    with one sentence; then nothing it began is left.
    """
    home, names = settings.home.absolute(), tuple(only) or tuple(plan.name for plan in PLANS)
    plans = [plan for plan in PLANS if plan.name in names and not getattr(settings, plan.name)]
    await asyncio.to_thread(fetch_jars, tuple(plan.name for plan in plans))
    async with _alone(home):
        nodes = await _start_all(plans, home, die_with_parent=die_with_parent, jvm_options=jvm_options)
    found = {node.plan.name: node.address for node in nodes}
    kafka, cassandra = settings.kafka or found.get("kafka", ""), settings.cassandra or found.get("cassandra", "")
    return Servers(home, kafka, cassandra, tuple(nodes))


async def _start_all(plans: list[Plan], home: Path, *, die_with_parent: bool, jvm_options: Sequence[str]) -> list[Node]:
    starts = [asyncio.create_task(start_node(plan, home, die_with_parent=die_with_parent, jvm_options=jvm_options)) for plan in plans]
    try:
        return list(await asyncio.gather(*starts))
    except BaseException:
        for start in starts:
            start.cancel()
        for node in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(node, Node) and node.child:
                await asyncio.shield(stop_node(node.plan, home))
                node.child.wait()
        raise


async def stop_servers(home: Path, *, only: Iterable[str] | None = None) -> list[str]:
    """Stop the servers of this home (an absolute path) whoever started them; return the names of those that ran."""
    plans = [plan for plan in PLANS if only is None or plan.name in only]
    ran = await asyncio.gather(*(stop_node(plan, home) for plan in plans))
    return [plan.name for plan, did in zip(plans, ran, strict=True) if did]


def owner_of(home: Path, plan: Plan) -> int:
    """Return the process that keeps this server running and would start it again; 0 if there is none."""
    state = read_state(home, plan.name)
    return state.owner_pid if state and state.kept else 0


def servers_status(home: Path) -> list[ServerStatus]:
    """Return what is known of each local server of this home."""
    return [_status(plan, home.absolute()) for plan in PLANS]


def _status(plan: Plan, home: Path) -> ServerStatus:
    state, log = read_state(home, plan.name), str(plan.log(home))
    if not state or not state.alive:
        return ServerStatus(plan.name, "stopped", "", 0, 0, "", log)
    starter = f"process {state.owner_pid}" if state.owner_pid else "ottla infra up"
    shown = "running" if state.ready else "starting"
    return ServerStatus(plan.name, shown, state.address, state.pid, _memory_mb(state.pid), starter, log)


def _memory_mb(pid: int) -> int:
    """Resident memory; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:")), 0)


def local_kafka(home: Path) -> str | None:
    """Return the address of this home's own Kafka if it runs."""
    return _address(home, KAFKA)


def local_cassandra(home: Path) -> str | None:
    """Return the address of this home's own Cassandra if it runs."""
    return _address(home, CASSANDRA)


def _address(home: Path, plan: Plan) -> str | None:
    state = read_state(home.absolute(), plan.name)
    return state.address if state and state.alive else None


@contextlib.asynccontextmanager
async def _alone(home: Path) -> AsyncIterator[None]:
    """Let one command at a time start servers in a home: two at once would start two of each over the same data."""
    try:
        (home / "run").mkdir(parents=True, exist_ok=True)
        lock = (home / "run" / "servers.lock").open("w")
    except OSError as error:
        raise ServerError(f"OTTLA_HOME={home} cannot be used: {error.strerror}.") from None
    with lock:
        while not _locked(lock.fileno()):  # noqa: ASYNC110 - the other one is another process
            await asyncio.sleep(_LOOK_AGAIN_S)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
