"""Scenario: what the same libraries cost when used as their manuals show, and what a kill does to them, in turns with Ottla."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.bench.figures import Bars, Figure, Result, Slice, middle_micros, middle_rate, paired_ratio
from infra.bench.installation import Installation
from infra.bench.plain.pipeline import PlainPipeline
from infra.bench.plan import Plan
from infra.bench.tally import tallied
from infra.demo.latency import percentile

ABOUT = (
    "The whole path as in cost, by Ottla and by the same libraries used as their manuals show (Starlette, a Faust agent with a table, a "
    "consumer that posts, a consumer that writes; infra/bench/plain), in turns on the same servers. Then each is killed with -9 while "
    "messages are posted at a steady rate, and started again: what had no reply when all was handled is lost."
)
_LATE_S = 1.0
_ROLES = {"intake": "ingress", "agent": "streams"}
_KILLED = {"Ottla": ("streams", "sender"), "plain": ("agent", "sender")}


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What a kill did: the longest reply in seconds, and how many of `count` messages had none, more than one, or one out of order."""

    count: int
    longest_s: float
    lost: int
    doubled: int
    disordered: int


@dataclass
class Turns:
    """The turns of both, and what kills did, by name and what was killed."""

    ours: list[Slice] = field(default_factory=list)
    plain: list[Slice] = field(default_factory=list)
    kills: dict[tuple[str, str], Kill] = field(default_factory=dict)


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Let both take turns, then kill a process of each."""
    plan = installation.plan
    turns = Turns()
    steps = 1 + plan.rounds + sum(map(len, _KILLED.values()))
    async with PlainPipeline(installation) as plain:
        for turn in range(-1, plan.rounds):
            seconds = plan.warm_up_s if turn < 0 else plan.seconds
            ours, _ = await installation.slice(seconds)
            others, _ = await installation.while_all_run(plain.slice(seconds))
            if turn >= 0:
                turns.ours.append(ours)
                turns.plain.append(others)
            progress(turn + 2, steps)
        for who, pipeline in (("Ottla", installation), ("plain", plain)):
            for name in _KILLED[who]:
                turns.kills[who, name] = await _kill(pipeline, name, plan)
                progress(1 + plan.rounds + len(turns.kills), steps)
    return Result(name="plain", about=ABOUT, figures=figures(turns), plots=[plot(turns)])


async def _kill(pipeline: Installation | PlainPipeline, name: str, plan: Plan) -> Kill:
    """Kill a process a third of the way through a steady load, start it again, and look at what came when all has been handled."""
    with tallied(pipeline.platform) as tally:
        posts = pipeline.users.post_at_rate(plan.plain_rate, seconds=3 * plan.seconds, conversations=plan.conversations)
        posting = asyncio.create_task(posts)
        await asyncio.sleep(plan.seconds)
        await pipeline.kill_and_start(name, down_s=plan.down_s)
        numbers = await posting
        await pipeline.settled()
        times, lost = await pipeline.users.replies_to(numbers, patience_s=_LATE_S)
    return Kill(count=len(numbers), longest_s=percentile(times, 1.0), lost=len(lost), doubled=tally.doubled, disordered=tally.disordered)


def figures(turns: Turns) -> list[Figure]:
    """Return what the turns and the kills come to."""
    both = {"Ottla": turns.ours, "plain": turns.plain}
    ratios = paired_ratio([each.micros() for each in turns.ours], [each.micros() for each in turns.plain])
    return [
        Figure(
            name="Ottla against plain",
            value=ratios,
            unit="times",
            how="processor time of a message over the whole path, broker and database included where they are this run's own",
        ),
        *(
            Figure(name=f"{who}, each message", value=middle_micros(slices), unit="µs", how="processor time of all that is counted")
            for who, slices in both.items()
        ),
        *(
            Figure(
                name=f"{who}, rate", value=middle_rate(slices), unit="messages/s", how="replies a second while all users wait for theirs"
            )
            for who, slices in both.items()
        ),
        *(
            Figure(name=f"plain {name}, each message", value=middle_micros(turns.plain, name), unit="µs", how=f"processor time of {name}")
            for name in (turns.plain[0].cpu_s if turns.plain else ())
        ),
        *(figure for (who, name), kill in turns.kills.items() for figure in _after(kill, f"{who}, {name} killed")),
    ]


def _after(kill: Kill, what: str) -> list[Figure]:
    counts = {"lost": kill.lost, "sent twice": kill.doubled, "out of order": kill.disordered}
    return [
        Figure(name=f"{what}, longest reply", value=kill.longest_s, unit="s", how="of the replies that came, from the post of its message"),
        *(
            Figure(name=f"{what}, {name}", value=float(count), unit="messages", how=f"of {kill.count} that were posted")
            for name, count in counts.items()
        ),
    ]


def plot(turns: Turns) -> Bars:
    """Return the bars: the whole path of both, by process."""
    both = {"Ottla": turns.ours, "plain": turns.plain}
    bars = {
        who: {_ROLES.get(name, name): middle_micros(slices, name) for name in slices[0].cpu_s} for who, slices in both.items() if slices
    }
    return Bars(file="plain.svg", title="Processor time of one message", unit="µs", bars=bars)
