"""Scenario: streams and sender are killed with -9 under load and started again a second later."""

import asyncio
from collections.abc import Callable

from infra.bench.figures import Curves, Figure, Result
from infra.bench.installation import Installation
from infra.demo.latency import percentile

_KILLED = ("streams", "sender")


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Kill one after the other, each while messages are posted at a steady rate."""
    plan = installation.plan
    times: dict[str, list[float]] = {}
    missing = 0
    for number, name in enumerate(_KILLED):
        posting = asyncio.create_task(_post(installation))
        await asyncio.sleep(plan.seconds)
        await installation.kill_and_start(name, down_s=plan.down_s)
        took, without = await installation.users.replies_to(await posting, patience_s=plan.patience_s)
        times[name] = took
        missing += len(without)
        await installation.children[f"{name}-1"].ready(patience_s=plan.patience_s)
        progress(number + 1, len(_KILLED))
    about = (
        f"{plan.kill_rate:g} messages a second for {3 * plan.seconds:g} s; after a third of it the process is killed with -9 and started "
        f"again {plan.down_s:g} s later."
    )
    curves = {f"{name} killed": [1000 * each for each in took] for name, took in times.items()}
    plot = Curves(file="kill.svg", title="Time to a reply around a kill", values_ms=curves)
    return Result(name="kill", about=about, figures=figures(times, missing), plots=[plot])


async def _post(installation: Installation) -> list[int]:
    plan = installation.plan
    return await installation.users.post_at_rate(plan.kill_rate, seconds=3 * plan.seconds, conversations=plan.conversations)


def figures(times_s: dict[str, list[float]], missing: int) -> list[Figure]:
    """Return the longest times and what they must be."""
    return [
        *(
            Figure(
                name=f"{name} killed, longest reply",
                value=percentile(times, 1.0),
                unit="s",
                how=f"the longest of {len(times)} replies, from the post of its message",
                must=12.0,
                goal=6.0,
            )
            for name, times in times_s.items()
        ),
        Figure(
            name="without a reply",
            value=float(missing),
            unit="messages",
            how="within the run's patience; sends that were parked as unknown are among them",
        ),
    ]
