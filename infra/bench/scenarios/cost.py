"""Scenario: what a message costs over the whole path, stage by stage, in turns with the floors."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from infra.bench.figures import Bars, Figure, Result, Slice, latency_figures, middle, middle_micros, middle_rate, paired_ratio, used
from infra.bench.floors.running import FaustFloor, ServerFloor, ToldFloor
from infra.bench.installation import ROLES, Installation
from infra.simulator.platform import SimulatedPlatform

ABOUT = (
    "All roles, broker and database; users who write, wait for the reply and write again; platform (two statuses a reply) and model "
    "simulated, not counted. From the first post until all of it is in history, in turns with the floors. Medians over the turns."
)
FLOORS = {
    "echo": "bare Starlette POST echo",
    "plain_echo": "the same over asyncio and h11",
    "empty": "Faust, empty agent",
    "table": "Faust, one table write",
    "client": "aiohttp, one POST",
    "batches": "driver, a row in batches of 10",
}
_EVENTS_A_SECOND = 500


@dataclass
class Turns:
    """What was measured: turns of the whole path (with the rows history wrote), of the floors by name, and one without load."""

    whole: list[Slice] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    floors: dict[str, list[Slice]] = field(default_factory=dict)
    idle: Mapping[str, float] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    memory_mb: Mapping[str, float] = field(default_factory=dict)


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Let floors and users take turns."""
    plan = installation.plan
    turns = Turns()
    async with AsyncExitStack() as stack:
        nobody = await stack.enter_async_context(SimulatedPlatform())
        floors: dict[str, ServerFloor | ToldFloor] = {
            "echo": await stack.enter_async_context(ServerFloor("echo", installation)),
            "plain_echo": await stack.enter_async_context(ServerFloor("plain_echo", installation)),
            "client": await stack.enter_async_context(ToldFloor("client", (f"{nobody.api_url}/1/messages",), installation)),
            "batches": await stack.enter_async_context(ToldFloor("batches", (), installation)),
        }
        faust = {kind: await stack.enter_async_context(FaustFloor(kind, installation)) for kind in ("empty", "table")}
        for turn in range(-1, plan.rounds):
            seconds = plan.warm_up_s if turn < 0 else plan.seconds
            found = {name: await floor.slice(seconds / 2) for name, floor in floors.items()}
            found |= {name: await floor.slice(max(1, int(_EVENTS_A_SECOND * seconds))) for name, floor in faust.items()}
            rows = await _rows_written(installation)
            whole, times_s = await installation.slice(seconds)
            if turn >= 0:
                for name, each in found.items():
                    turns.floors.setdefault(name, []).append(each)
                turns.whole.append(whole)
                turns.rows.append(await _rows_written(installation) - rows)
                turns.times_s += times_s
            progress(turn + 2, plan.rounds + 1)
    turns.memory_mb = installation.meter.memory_mb()
    turns.idle = await _idle(installation, plan.seconds / 2)
    return Result(name="cost", about=ABOUT, figures=figures(turns), plots=[plot(turns)])


async def _rows_written(installation: Installation) -> int:
    """Ask the history sink how many rows it has written so far."""
    return (await installation.children["history-1"].figures()).total("ottla_history_rows_total")


async def _idle(installation: Installation, seconds: float) -> Mapping[str, float]:
    """Return the share of a processor that each process takes while nothing happens."""
    before = installation.meter.cpu_s()
    await asyncio.sleep(seconds)
    return {name: each / seconds for name, each in used(before, installation.meter.cpu_s()).items()}


def figures(turns: Turns) -> list[Figure]:
    """Return what the turns come to."""
    whole, floors = turns.whole, turns.floors
    names = [name for name in (*ROLES, "kafka", "cassandra") if any(name in each.cpu_s for each in whole)]
    return [
        *_against_floors(turns),
        Figure(name="whole path, each message", value=middle_micros(whole), unit="µs", how="processor time of all that is counted"),
        *(
            Figure(name=f"{name}, each message", value=middle_micros(whole, name), unit="µs", how=f"processor time of {name}")
            for name in names
        ),
        *(
            Figure(name=f"floor: {about}", value=middle_micros(floors[name]), unit="µs", how="processor time of the floor's process")
            for name, about in FLOORS.items()
        ),
        Figure(name="rate", value=middle_rate(whole), unit="messages/s", how="replies a second while all users wait for theirs"),
        *latency_figures("reply under full load", turns.times_s, "from the post of a message until its reply is at the platform"),
        *(
            Figure(name=f"{name}, idle", value=100 * share, unit="% of a core", how="processor time while nothing happens, not subtracted")
            for name, share in turns.idle.items()
        ),
        *(
            Figure(name=f"{name}, memory", value=megabytes, unit="MB", how="resident memory after the last turn")
            for name, megabytes in turns.memory_mb.items()
        ),
    ]


def _against_floors(turns: Turns) -> list[Figure]:
    whole = turns.whole
    floors = {name: [each.micros() for each in slices] for name, slices in turns.floors.items()}
    # The stage calls the model once a message; what one call costs is known from the client's floor.
    stage = [each.micros("streams") - call for each, call in zip(whole, floors["client"], strict=True)]
    per_row = [each.micros("history") * each.count / rows if rows else 0.0 for each, rows in zip(whole, turns.rows, strict=True)]
    return [
        Figure(
            name="whole path against echo",
            value=paired_ratio([each.micros() for each in whole], floors["echo"]),
            unit="times",
            how="inbound, reply and two statuses over all roles, broker and database, divided by one bare Starlette POST echo"
            + ("" if _is_whole(whole) else "; broker and database were NOT counted: they are not this run's own"),
            must=30.0 if _is_whole(whole) else None,
            goal=20.0,
        ),
        Figure(
            name="whole path against plain echo",
            value=paired_ratio([each.micros() for each in whole], floors["plain_echo"]),
            unit="times",
            how="the same, divided by that echo as uvicorn serves it by itself: without the uvloop and httptools that the ingress has too",
        ),
        Figure(
            name="streams against Faust with one table write",
            value=paired_ratio(stage, floors["table"]),
            unit="times",
            how="processor time of streams less one call of the client's floor (the model), divided by that of the bare agent",
            must=1.7,
        ),
        Figure(
            name="sender against a bare post",
            value=paired_ratio([each.micros("sender") for each in whole], floors["client"]),
            unit="times",
            how="processor time of the sender for a message with its two statuses, divided by one bare aiohttp POST",
            must=2.0,
        ),
        Figure(
            name="history against bare batches",
            value=paired_ratio(per_row, floors["batches"]),
            unit="times",
            how="processor time of history for each row it wrote, divided by that of the bare driver",
            must=1.5,
        ),
        Figure(
            name="rows of history, each message",
            value=middle([rows / each.count for each, rows in zip(whole, turns.rows, strict=True) if each.count]),
            unit="rows",
            how="rows that history wrote, by its own metric",
        ),
    ]


def _is_whole(whole: Sequence[Slice]) -> bool:
    return all({"kafka", "cassandra"} <= each.cpu_s.keys() for each in whole)


def plot(turns: Turns) -> Bars:
    """Return the bars: the whole path by process, and the floors."""
    names = [name for name in (*ROLES, "kafka", "cassandra") if any(name in each.cpu_s for each in turns.whole)]
    bars = {"whole path": {name: middle_micros(turns.whole, name) for name in names}}
    bars |= {about: {"floor": middle_micros(turns.floors[name])} for name, about in FLOORS.items()}
    return Bars(file="cost.svg", title="Processor time of one message, and of the floors", unit="µs", bars=bars)
