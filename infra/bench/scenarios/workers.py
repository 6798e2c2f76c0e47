"""Scenario: what a message costs with one stream worker, and with several."""

from collections.abc import Callable

from infra.bench.figures import Figure, Result, Slice, ratio
from infra.bench.installation import Installation


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Measure with one worker, start the others, measure again."""
    plan = installation.plan
    steps = 2 * (plan.rounds + 1)
    one = await _turns(installation, progress, first=0, steps=steps)
    numbers = range(2, plan.workers + 1)
    try:
        for number in numbers:
            await installation.add_worker("streams", number)
        several = await _turns(installation, progress, first=steps // 2, steps=steps)
    finally:
        for number in numbers:
            if f"streams-{number}" in installation.children:
                await installation.end_worker("streams", number)
    about = f"The whole path as in cost, with one stream worker and then with {plan.workers}; all workers are counted."
    return Result(name="workers", about=about, figures=figures(one, several, workers=plan.workers))


async def _turns(installation: Installation, progress: Callable[[int, int], None], *, first: int, steps: int) -> Slice:
    """Return all turns after the warm-up as one."""
    plan = installation.plan
    found = []
    for turn in range(plan.rounds + 1):
        found.append((await installation.slice(plan.seconds if turn else plan.warm_up_s))[0])
        progress(first + turn + 1, steps)
    measured = found[1:]
    names = measured[0].cpu_s.keys()
    return Slice(
        cpu_s={name: sum(each.cpu_s[name] for each in measured) for name in names},
        count=sum(each.count for each in measured),
        wall_s=sum(each.wall_s for each in measured),
    )


def figures(one: Slice, several: Slice, *, workers: int) -> list[Figure]:
    """Return how the cost grows."""
    return [
        Figure(
            name=f"growth of the stage's cost with {workers} workers",
            value=100 * (ratio(several.micros("streams"), one.micros("streams")) - 1),
            unit="%",
            how="processor time of all stream workers for each message, against that of one",
            must=15.0,
        ),
        Figure(
            name=f"growth of the whole path's cost with {workers} workers",
            value=100 * (ratio(several.micros(), one.micros()) - 1),
            unit="%",
            how="processor time of all that is counted for each message, against that with one worker",
        ),
        *(
            Figure(
                name=f"streams, {count} worker{'s' if count > 1 else ''}",
                value=each.micros("streams"),
                unit="µs",
                how="processor time a message",
            )
            for count, each in ((1, one), (workers, several))
        ),
        *(
            Figure(name=f"rate, {count} worker{'s' if count > 1 else ''}", value=each.rate, unit="messages/s", how="replies a second")
            for count, each in ((1, one), (workers, several))
        ),
    ]
