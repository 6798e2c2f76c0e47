"""Scenario: honest webhooks at a steady rate to the ingress alone: without hostile clients, beside those of each kind, and of all."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.bench.figures import Curves, Figure, Result, middle, paired_ratio
from infra.bench.floors.running import ToldFloor
from infra.bench.hostile import KINDS, connections_possible
from infra.bench.installation import Installation
from infra.bench.users import webhooks
from infra.demo.latency import percentile
from infra.kafka.connection import aiokafka_options
from infra.settings import Settings
from schemas.topics import RAW

WITHOUT, ALL = "none", "all kinds"
TURNS: Mapping[str, Sequence[str]] = {WITHOUT: (), **{kind: (kind,) for kind in KINDS}, ALL: tuple(KINDS)}
"""Which kinds of hostile clients there are in each turn."""

GROWTH_MUST_MB = 1_000.0
_WHY_THIS_GROWTH = (
    "64 MiB of large bodies, copies of two on their way to and from the processes that split them, some 300 MB in each of these two, what "
    "4,096 connections need, and the allocator's slack"
)

_LOOK_S = 0.1
_CALM_S = 3.0
_READ_MS = 1_000
_NUMBER = re.compile(rb"wamid\.bench\.(\d+)")


@dataclass
class Seen:
    """What was seen: honest seconds to the answer by turn, of each round; which were stored, and how many were not; connections opened."""

    times: dict[str, list[list[float]]] = field(default_factory=lambda: {turn: [] for turn in TURNS})
    stored: set[int] = field(default_factory=set)
    refused: int = 0
    opened: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TURNS, 0))


@dataclass
class Memory:
    """Resident memory of the ingress in MB, its processes that split large bodies included."""

    before: float
    most: float = 0.0
    after: float = 0.0


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Post honest webhooks in turns, in each with other hostile clients beside them."""
    plan = installation.plan
    idle = connections_possible(plan.idle_connections)
    honest = enumerate(webhooks(secret=installation.secret, conversations=plan.conversations))
    begins = await _ends(installation.settings)
    seen, total = Seen(), 1 + plan.rounds * len(TURNS)
    await _post(installation, honest, Seen(), seconds=plan.warm_up_s)
    progress(1, total)
    memory = Memory(before=_memory_mb(installation))
    async with _watched(installation, memory):
        for number, (turn, kinds) in enumerate(itertools.chain(*[TURNS.items()] * plan.rounds)):
            async with _clients(installation, kinds, idle=idle) as clients:
                await clients.tell(plan.seconds)
                seen.times[turn].append(await _post(installation, honest, seen, seconds=plan.seconds))
                seen.opened[turn] += (await clients.told()).count
            progress(number + 2, total)
        await asyncio.sleep(_CALM_S)
    memory.after = _memory_mb(installation)
    lost = seen.stored - await _in_log(installation.settings, begins)
    return Result(
        name="hostile",
        about=f"`ottla run ingress` alone. {plan.honest_rate:g} honest webhooks a second, in turns without and with hostile clients, which "
        f"are a process of their own: {plan.slow_clients} slow ones of each sort, {idle} idle connections (as many as the limit of open "
        f"files allows of {plan.idle_connections}), and bodies signed and not.",
        figures=figures(seen, memory, lost=len(lost), rate=plan.honest_rate),
        plots=[_plot(seen)],
    )


def figures(seen: Seen, memory: Memory, *, lost: int, rate: float) -> list[Figure]:
    """Return what the turns come to."""
    count = sum(len(times) for rounds in seen.times.values() for times in rounds) + seen.refused
    bounded = f"resident, sampled every {_LOOK_S:g} s, with its processes that split large bodies"
    return [
        _slower(seen, ALL, must=2.0),
        Figure(name="honest refused", value=float(seen.refused), unit="webhooks", how=f"not answered 200, of {count}", must=0.0),
        Figure(name="honest lost", value=float(lost), unit="webhooks", how="answered 200 and not in the log", must=0.0),
        Figure(
            name="memory, growth at most",
            value=memory.most - memory.before,
            unit="MB",
            how=f"{bounded}; must be: {_WHY_THIS_GROWTH}",
            must=GROWTH_MUST_MB,
        ),
        *(_slower(seen, kind) for kind in KINDS),
        *(
            Figure(
                name=f"honest p{share * 100:.0f}, {turn}",
                value=1000 * middle([percentile(times, share) for times in seen.times[turn]]),
                unit="ms",
                how=f"{rate:g} a second, from when each was due to its answer; median over the turns",
            )
            for turn in (WITHOUT, ALL)
            for share in (0.5, 0.99)
        ),
        *(
            Figure(name=f"memory, {when}", value=value, unit="MB", how=bounded)
            for when, value in (("before", memory.before), ("at most", memory.most), ("after", memory.after))
        ),
    ]


def _slower(seen: Seen, turn: str, *, must: float | None = None) -> Figure:
    of_turn, without = ([percentile(times, 0.99) for times in seen.times[each]] for each in (turn, WITHOUT))
    return Figure(
        name=f"honest p99 with {turn}",
        value=paired_ratio(of_turn, without),
        unit="times",
        how=f"divided by that without hostile clients in the same round; they opened {seen.opened[turn]} connections",
        must=must,
    )


def _plot(seen: Seen) -> Curves:
    values = {turn: [1000 * each for times in rounds for each in times] for turn, rounds in seen.times.items() if turn in (WITHOUT, ALL)}
    return Curves(file="hostile.svg", title="Time to the answer of an honest webhook, by hostile clients", values_ms=values)


async def _post(installation: Installation, honest: Iterator[tuple[int, bytes]], seen: Seen, *, seconds: float) -> list[float]:
    """Post at a steady rate whatever comes back; return the seconds to each 200, from when it was due."""
    rate, load = installation.plan.honest_rate, installation.load
    times: list[float] = []

    async def one(number: int, request: bytes, due: float) -> None:
        try:
            status = await load.ask(request)
        except OSError:
            status = 0
        if status == 200:  # noqa: PLR2004
            times.append(time.perf_counter() - due)
            seen.stored.add(number)
        else:
            seen.refused += 1

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for count in range(round(rate * seconds)):
            due = begun + count / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(*next(honest), due))
    return times


def _clients(installation: Installation, kinds: Sequence[str], *, idle: int) -> ToldFloor:
    words = (str(installation.port), str(idle), str(installation.plan.slow_clients), *kinds)
    return ToldFloor("hostile", words, installation, package="infra.bench")


@asynccontextmanager
async def _watched(installation: Installation, memory: Memory) -> AsyncIterator[None]:
    """Keep the most memory that the ingress takes meanwhile."""

    async def watch() -> None:
        while True:
            memory.most = max(memory.most, _memory_mb(installation))
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _memory_mb(installation: Installation) -> float:
    return installation.meter.memory_mb()["ingress"]


Ends = Mapping[TopicPartition, int]


async def _ends(settings: Settings) -> Ends:
    """Return where each partition of [raw] ends."""
    async with _reading(settings) as consumer:
        return await _ends_seen_by(consumer, settings)


async def _in_log(settings: Settings, begins: Ends) -> set[int]:
    """Return the numbers of all webhooks of ours that are in the log from there on."""
    found: set[int] = set()
    async with _reading(settings) as consumer:
        ends = await _ends_seen_by(consumer, settings)
        consumer.assign(list(begins))
        for place, begin in begins.items():
            consumer.seek(place, begin)
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=_READ_MS)).values():
                found.update(int(number) for record in records for number in _NUMBER.findall(record.value))
    return found


async def _ends_seen_by(consumer: Any, settings: Settings) -> Ends:
    ends: Ends = await consumer.end_offsets([TopicPartition(RAW.named(settings.topic_prefix), each) for each in range(settings.partitions)])
    return ends


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(**aiokafka_options(settings))
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
