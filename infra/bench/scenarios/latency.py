"""Scenario: how long a reply takes at a steady rate with an instant model."""

from collections.abc import Callable

from infra.bench.figures import Curves, Figure, Result
from infra.bench.installation import Installation
from infra.demo.latency import percentile

ABOUT = "Messages posted at a steady rate whatever comes back, instant model; from the post to the arrival of the reply at the platform."


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Post at the rate, first to warm up."""
    plan, users = installation.plan, installation.users
    times: list[float] = []
    missing: list[int] = []
    for turn, seconds in enumerate((plan.warm_up_s, plan.seconds * plan.rounds)):
        numbers = await users.post_at_rate(plan.latency_rate, seconds=seconds, conversations=plan.conversations)
        times, missing = await users.replies_to(numbers, patience_s=plan.patience_s)
        progress(turn + 1, 2)
    await installation.settled()
    return Result(
        name="latency",
        about=ABOUT,
        figures=figures(times, len(missing), rate=plan.latency_rate),
        plots=[
            Curves(
                file="latency.svg",
                title=f"Time to a reply at {plan.latency_rate:g} messages a second",
                values_ms={"reply": [1000 * each for each in times]},
            )
        ],
    )


def figures(times_s: list[float], missing: int, *, rate: float) -> list[Figure]:
    """Return the percentiles and what they must be."""
    how = f"{len(times_s)} messages at {rate:g} a second, the simulated platform and model in the process that posts"
    return [
        Figure(name="reply, p50", value=1000 * percentile(times_s, 0.5), unit="ms", how=how, must=15.0),
        Figure(name="reply, p99", value=1000 * percentile(times_s, 0.99), unit="ms", how=how, must=50.0),
        Figure(name="reply, longest", value=1000 * percentile(times_s, 1.0), unit="ms", how=how),
        Figure(name="without a reply", value=float(missing), unit="messages", how="within the run's patience", must=0.0),
    ]
