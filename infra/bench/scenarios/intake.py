"""Scenario: the ingress alone, filled with webhooks, in turns with a floor that checks, parses and produces as it does."""

from collections.abc import Callable

from infra.bench.figures import Figure, Result, Slice, middle_micros, middle_rate, paired_ratio
from infra.bench.floors import TOPICS
from infra.bench.floors.running import ServerFloor, filled, make_topic
from infra.bench.installation import Installation
from infra.bench.users import webhooks

ABOUT = (
    "`ottla run ingress` alone, all connections kept busy, in turns with the floor: Starlette, HMAC over the raw body, msgspec, one "
    "awaited produce to the same broker. Ratios are medians over the turns."
)


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Fill both in turns."""
    plan = installation.plan
    await make_topic(installation.settings, TOPICS["intake"])
    requests = webhooks(secret=installation.secret, conversations=plan.conversations)
    ours: list[Slice] = []
    floors: list[Slice] = []
    async with ServerFloor("intake", installation) as floor:
        for turn in range(-1, plan.rounds):
            seconds = plan.warm_up_s if turn < 0 else plan.seconds
            of_floor = await floor.slice(seconds)
            of_ours = await filled(installation.load, installation.meter, requests, seconds=seconds)
            if turn >= 0:
                floors.append(of_floor)
                ours.append(of_ours)
            progress(turn + 2, plan.rounds + 1)
    return Result(name="intake", about=ABOUT, figures=figures(ours, floors))


def figures(ours: list[Slice], floors: list[Slice]) -> list[Figure]:
    """Return what the turns come to."""
    return [
        Figure(
            name="rate against the floor",
            value=paired_ratio([each.rate for each in ours], [each.rate for each in floors]),
            unit="",
            how="webhooks answered 200 a second by the ingress, divided by those of the floor in the same turn",
            must=0.7,
            goal=0.85,
            at_most=False,
        ),
        Figure(
            name="processor time against the floor",
            value=paired_ratio([each.micros("ingress") for each in ours], [each.micros() for each in floors]),
            unit="times",
            how="processor time of the ingress's process for each webhook, divided by that of the floor's",
        ),
        Figure(name="ingress", value=middle_rate(ours), unit="webhooks/s", how="median over the turns"),
        Figure(name="floor", value=middle_rate(floors), unit="webhooks/s", how="median over the turns"),
        Figure(name="ingress, each webhook", value=middle_micros(ours, "ingress"), unit="µs", how="processor time, its process alone"),
        Figure(name="broker, each webhook", value=middle_micros(ours, "kafka"), unit="µs", how="processor time, the local broker"),
        Figure(name="floor, each webhook", value=middle_micros(floors), unit="µs", how="processor time, its process alone"),
    ]
