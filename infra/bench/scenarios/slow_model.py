"""Scenario: many conversations side by side while each answer takes the model long."""

import asyncio
import time
from collections.abc import Callable

from infra.bench.figures import Figure, Result, latency_figures
from infra.bench.installation import Installation


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Let every user write so many messages, each after the reply to the one before; the first time to warm up."""
    plan, model = installation.plan, installation.model
    times: list[float] = []
    model.delay_s = plan.model_s
    begun = time.perf_counter()
    try:
        for turn, messages in enumerate((1, plan.turns)):
            begun = time.perf_counter()
            users = await asyncio.gather(*(_user(installation, number, messages) for number in range(plan.conversations)))
            times = [each for user in users for each in user]
            progress(turn + 1, 2)
    finally:
        model.delay_s = 0.0
    took_s = time.perf_counter() - begun
    await installation.settled()
    about = (
        f"A model that takes {plan.model_s:g} s; {plan.conversations} conversations of {plan.turns} messages, each written after the reply "
        "to the one before."
    )
    return Result(name="slow-model", about=about, figures=figures(times, took_s, at_once=plan.conversations, model_s=plan.model_s))


async def _user(installation: Installation, number: int, messages: int) -> list[float]:
    patience_s = installation.plan.patience_s
    return [await installation.users.converse(number, patience_s=patience_s) for _ in range(messages)]


def figures(times_s: list[float], took_s: float, *, at_once: int, model_s: float) -> list[Figure]:
    """Return the rate against the ideal one, at which nothing but the model takes time."""
    ideal = at_once / model_s
    rate = len(times_s) / took_s
    how = f"{len(times_s)} replies in {took_s:.1f} s; the ideal is {ideal:g} a second"
    return [
        Figure(name="replies against the ideal", value=rate / ideal, unit="", how=how, must=0.8, goal=0.9, at_most=False),
        Figure(name="replies", value=rate, unit="messages/s", how=how),
        *latency_figures("reply", times_s, "from the post of a message until its reply is at the platform, the model's time included"),
    ]
