"""The faults of a run: what each does, how it is written down, and when the role it hit works again.

Faults come one after the other, so that each one's recovery is its own; lost answers and strange statuses go on all the time beside them.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError, KafkaException

from infra.simulator.faults import Fault as Simulated
from infra.simulator.faults import Faults
from schemas.groups import SESSION_S
from tests.torture.cluster import STREAMS_MAX, Cluster, Worker
from tests.torture.history import Entry, Fault, HistoryWriter, Stored
from tests.torture.keeper import Keeper, Say
from tests.torture.progress import GROUPS, Recovery

RESTARTED_S, TAKEN_OVER_S, SERVER_BACK_S = 6.0, 15.0, 20.0
"""Within how many seconds a role must work again: restarted at once, its partitions taken over by others, after the broker is back."""

_GIVEN_UP_S = 120.0
_ENDED_S = 20.0
_DAY_S = 86_400.0
_JOINS_S = (2.0, 5.0)
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long faults last, in seconds.

    `pause` is that of a process's first pause and of a server's first absence, `again` of every later one; `away` is how long a killed
    worker is not started again; `window` how long platform or model misbehave; `slow_answer` how slow the platform answers then, and
    `slow_model` the model.
    """

    pause: float
    again: float
    away: float
    window: float
    block: float
    slow_answer: float
    slow_model: float


@dataclass(frozen=True)
class Recovered:
    """How long something took to work again after a fault (None: it did not); more than `bound_s` is too long."""

    fault: str
    target: str
    seconds: float | None
    bound_s: float | None

    @property
    def in_time(self) -> bool:
        """Whether it works again, and soon enough."""
        return self.seconds is not None and (self.bound_s is None or self.seconds <= self.bound_s)


class RunHistory(HistoryWriter):
    """The history of a run; it also remembers when the last webhook was stored."""

    stored_at = 0.0

    def write(self, entry: Entry) -> None:
        """Append an entry."""
        super().write(entry)
        if isinstance(entry, Stored):
            self.stored_at = entry.at


@dataclass
class Ground:
    """What faults are done to and where they are written down; `probe` posts something for `stored_after`, whatever the load does."""

    cluster: Cluster
    history: RunHistory
    recovery: Recovery
    chance: random.Random
    lengths: Lengths
    say: Say
    probe: Callable[[], Awaitable[None]]
    recovered: list[Recovered] = field(default_factory=list)

    def note(self, name: str, target: str, phase: str, seconds: float = 0.0) -> None:
        """Write a fault down, and say it."""
        self.history.write(Fault(at=time.time(), name=name, target=target, phase=phase, seconds=round(seconds, 2)))

    @contextmanager
    def told(self, name: str, target: str) -> Iterator[None]:
        """Write down that a fault begins and ends."""
        self.say(f"{name}: {target}")
        self.note(name, target, "begin")
        yield
        self.note(name, target, "end")

    def judge(self, name: str, target: str, took_s: dict[str, float | None], bound_s: float | None) -> None:
        """Write down how long it took until something worked again."""
        times = [seconds for seconds in took_s.values() if seconds is not None]
        slowest = max(times, default=0.0) if len(times) == len(took_s) else None
        if slowest is not None:
            self.note(name, target, "progress", slowest)
        recovered = Recovered(name, target, slowest, bound_s)
        self.recovered.append(recovered)
        each = ", ".join(f"{group} {seconds:.1f} s" if seconds is not None else f"{group} NOT" for group, seconds in took_s.items())
        self.say(f"{name}: {target} works again: {each}" + ("" if recovered.in_time else f" - later than {bound_s} s"))

    async def stored_after(self, moment: Callable[[], float]) -> dict[str, float | None]:
        """Return after how many seconds a webhook is stored after a moment."""
        asked_at = time.monotonic()
        while self.history.stored_at <= moment():
            if time.monotonic() - asked_at > _GIVEN_UP_S:
                return {"ingress": None}
            await self.probe()
            await asyncio.sleep(_LOOK_AGAIN_S)
        return {"ingress": time.monotonic() - asked_at}

    async def works_again(self, worker: Worker, affected: dict[str, set[int]], *, begun_at: Callable[[], float]) -> dict[str, float | None]:
        """Return after how many seconds what a worker had is worked on again by a process that was started after `begun_at()`."""
        if worker.role == "ingress":
            return await self.stored_after(begun_at)
        return await self.recovery.progressed(affected, begun_at=begun_at, timeout_s=_GIVEN_UP_S)

    async def affected(self, worker: Worker) -> dict[str, set[int]]:
        """Return the partitions that a worker owns now, by group.

        A broker that runs and will not coordinate a group any more is killed and started again, as `infra/monitoring/OPERATING.md` has it.
        """
        try:
            return await self.recovery.affected(worker.groups, [worker.name])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_COORDINATOR:
                raise
        for kafka in self.cluster.kafkas:
            with self.told("kafka stuck", kafka.name):
                await kafka.end(signal.SIGKILL, patience_s=_ENDED_S)
                await kafka.running()
        return await self.recovery.affected(worker.groups, [worker.name])

    def everything(self, groups: Iterable[str]) -> dict[str, set[int]]:
        """Return all partitions of these groups."""
        return {group: set(range(self.cluster.settings.partitions)) for group in groups}

    def any_of(self, role: str) -> Worker:
        """Return one of a role's workers."""
        return self.chance.choice(self.cluster.of_role(role))


async def kill(ground: Ground, role: str) -> None:
    """Kill -9 a worker; it is started again at once."""
    worker = ground.any_of(role)
    affected = await ground.affected(worker)
    before = worker.keeper.begun_at
    with ground.told(f"kill {role}", worker.name):
        await worker.keeper.send(signal.SIGKILL)
    took_s = await ground.works_again(worker, affected, begun_at=lambda: _later(worker.keeper.begun_at, before))
    ground.judge(f"kill {role}", worker.name, took_s, RESTARTED_S)
    await worker.ready()


async def away(ground: Ground, role: str) -> None:
    """Kill -9 a worker, and start it again only when others have had its partitions for a while."""
    worker = ground.any_of(role)
    affected = await ground.affected(worker)
    name = f"takeover {role}"
    worker.keeper.let_end()
    with ground.told(name, worker.name):
        killed_at = time.time()
        await worker.keeper.send(signal.SIGKILL)
        took_s, _ = await asyncio.gather(
            ground.works_again(worker, affected, begun_at=lambda: killed_at), asyncio.sleep(ground.lengths.away)
        )
    ground.judge(name, worker.name, took_s, TAKEN_OVER_S)
    worker.keeper.want()
    await worker.ready()


async def pause(ground: Ground, role: str, seconds: float) -> None:
    """SIGSTOP a worker, SIGCONT it after so many seconds; past its session, others take over meanwhile."""
    await _stall(ground, ground.any_of(role), f"pause {role}", seconds, (signal.SIGSTOP, signal.SIGCONT))


async def block(ground: Ground, role: str) -> None:
    """Let a worker's event loop be blocked for a while, as by a call that does not await."""
    await _stall(ground, ground.any_of(role), f"block {role}", ground.lengths.block, (signal.SIGUSR2, None))


async def _stall(ground: Ground, worker: Worker, name: str, seconds: float, signals: tuple[signal.Signals, signal.Signals | None]) -> None:
    affected = await ground.affected(worker)
    begin, end = signals
    with ground.told(name, worker.name):
        begun_at = time.time()
        await worker.keeper.send(begin)
        if worker.role != "ingress" and seconds > SESSION_S and ground.cluster.beside(worker):
            ground.note(f"takeover {worker.role}", worker.name, "begin")
            took_s, _ = await asyncio.gather(ground.works_again(worker, affected, begun_at=lambda: begun_at), asyncio.sleep(seconds))
            ground.judge(f"takeover {worker.role}", worker.name, took_s, TAKEN_OVER_S)
        else:
            await asyncio.sleep(seconds)
        if end is not None:
            await worker.keeper.send(end)
    ended_at = time.time()
    took_s = await ground.works_again(worker, ground.everything(worker.groups), begun_at=lambda: ended_at)
    ground.judge(name, worker.name, took_s, TAKEN_OVER_S)
    await worker.ready()


async def roll(ground: Ground) -> None:
    """Restart every worker politely, one after the other, as a deployment does."""
    for worker in [each for each in ground.cluster.workers.values() if each.keeper.is_wanted]:
        affected = await ground.affected(worker)
        before = worker.keeper.begun_at
        name = f"restart {worker.role}"
        with ground.told(name, worker.name):
            took_s, _ = await asyncio.gather(
                ground.works_again(worker, affected, begun_at=partial(_newest_start, worker.keeper, before)),
                worker.keeper.end(signal.SIGTERM, patience_s=_ENDED_S),
            )
        ground.judge(name, worker.name, took_s, TAKEN_OVER_S)
        await worker.ready()


async def join_and_leave(ground: Ground) -> None:
    """Let streams workers join and leave every few seconds, two to four of them at once."""
    cluster = ground.cluster
    spare = [cluster.workers[f"streams-{number}"] for number in range(cluster.streams + 1, STREAMS_MAX + 1)]
    with ground.told("join and leave", "streams"):
        until = time.monotonic() + ground.lengths.again
        while time.monotonic() < until:
            worker = ground.chance.choice(spare)
            await _leave(worker) if worker.keeper.is_wanted else worker.keeper.want()
            await asyncio.sleep(ground.chance.uniform(*_JOINS_S))
        for worker in spare:
            await _leave(worker)
    ended_at = time.time()
    everything = ground.everything(["streams"])
    took_s = await ground.recovery.progressed(everything, begun_at=lambda: ended_at, timeout_s=_GIVEN_UP_S)
    ground.judge("join and leave", "streams", took_s, TAKEN_OVER_S)


async def _leave(worker: Worker) -> None:
    if worker.keeper.is_wanted:
        worker.keeper.let_end()
        await worker.keeper.end(signal.SIGTERM, patience_s=_ENDED_S)


async def kill_server(ground: Ground, server: str, seconds: float) -> None:
    """Kill -9 a server, or one of several brokers, and start it again after so many seconds."""
    keeper = _server(ground, server)
    name = f"{server} away" if seconds else f"kill {server}"
    keeper.let_end()
    async with _server_fault(ground, server, name, keeper):
        await keeper.end(signal.SIGKILL, patience_s=_ENDED_S)
        if seconds:
            await _without(ground, keeper, name, seconds)
        keeper.want()
        await keeper.running()


async def pause_server(ground: Ground, server: str, seconds: float) -> None:
    """SIGSTOP a server, or one of several brokers, for so many seconds."""
    keeper = _server(ground, server)
    async with _server_fault(ground, server, f"pause {server}", keeper):
        await keeper.send(signal.SIGSTOP)
        await _without(ground, keeper, f"pause {server}", seconds)
        await keeper.send(signal.SIGCONT)


async def _without(ground: Ground, keeper: Keeper, name: str, seconds: float) -> None:
    """Wait so long; where other brokers stand in for one, everything must work on without it."""
    if len(ground.cluster.kafkas) == 1 or keeper not in ground.cluster.kafkas:
        await asyncio.sleep(seconds)
        return
    begun_at = time.time()
    work = ground.recovery.progressed(ground.everything(GROUPS), begun_at=lambda: begun_at, timeout_s=_GIVEN_UP_S)
    took_s, stored_s, _ = await asyncio.gather(work, ground.stored_after(lambda: begun_at), asyncio.sleep(seconds))
    ground.judge(f"{name}, the others", keeper.name, took_s | stored_s, TAKEN_OVER_S)


async def slow_cassandra(ground: Ground) -> None:
    """Let each answer of Cassandra come five seconds later, by a proxy before it."""
    proxy = ground.cluster.cassandra_proxy
    async with _server_fault(ground, "cassandra", "cassandra slow", ground.cluster.cassandra):
        proxy.delay_s = 5.0
        await asyncio.sleep(ground.lengths.again)
        proxy.delay_s = 0.0


@asynccontextmanager
async def _server_fault(ground: Ground, server: str, name: str, keeper: Keeper) -> AsyncIterator[None]:
    """Tell a server's fault; afterwards measure when all that need it work again."""
    with ground.told(name, keeper.name):
        yield
    ended_at = time.time()
    groups = GROUPS if server == "kafka" else ("history",)
    took_s = await ground.recovery.progressed(ground.everything(groups), begun_at=lambda: ended_at, timeout_s=_GIVEN_UP_S)
    if server == "kafka":
        took_s |= await ground.stored_after(lambda: ended_at)
    ground.judge(name, keeper.name, took_s, SERVER_BACK_S if server == "kafka" else None)


async def step_clock(ground: Ground) -> None:
    """Let one worker's wall clock be a day ahead or behind for a while."""
    worker = ground.any_of(ground.chance.choice(("ingress", "streams", "sinks")))
    off_s = ground.chance.choice((-_DAY_S, _DAY_S))
    with ground.told(f"clock {worker.role}", f"{worker.name} {off_s:+.0f} s"):
        ground.cluster.set_clock(worker, off_s=off_s)
        await asyncio.sleep(ground.lengths.window)
        ground.cluster.set_clock(worker, off_s=0.0)


async def misbehave(ground: Ground, where: str, name: str, fault: Simulated) -> None:
    """Let the platform or the model misbehave for a while."""
    faults: Faults = getattr(ground.cluster, where).faults
    with ground.told(f"{where} {name}", f"{fault.probability:.0%}" + (f", code {fault.code}" if fault.code else "")):
        faults.turn(name, fault)
        await asyncio.sleep(ground.lengths.window)
        faults.turn(name, None)


async def platform_down(ground: Ground) -> None:
    """Let the platform refuse every connection for a while."""
    with ground.told("platform down", "platform"):
        await ground.cluster.platform.stop_listening()
        await asyncio.sleep(ground.lengths.window)
        await ground.cluster.platform.listen()


def _server(ground: Ground, server: str) -> Keeper:
    if server == "cassandra":
        return ground.cluster.cassandra
    kafkas = ground.cluster.kafkas
    return kafkas[0] if len(kafkas) == 1 else ground.chance.choice(kafkas)


def _newest_start(keeper: Keeper, before: float) -> float:
    return _later(keeper.begun_at, before)


def _later(begun_at: float, before: float) -> float:
    """Return the time of a start if it is a new one, else one that nothing is later than."""
    return begun_at if begun_at > before else float("inf")
