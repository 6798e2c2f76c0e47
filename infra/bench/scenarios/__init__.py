"""What is measured: one module for each scenario. Those with the same roles share an installation, in the order given here."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from infra.bench.figures import Result
from infra.bench.installation import ROLES, Installation
from infra.bench.scenarios import cost, hostile, ids, intake, kill, latency, memory, pages, plain, slow_model, workers


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario's name, one line about it, the roles it needs, and what plays it; `only_if_named` says that it takes long or much disk."""

    name: str
    about: str
    play: Callable[[Installation, Callable[[int, int], None]], Coroutine[Any, Any, Result]]
    roles: Sequence[str] = tuple(ROLES)
    only_if_named: bool = False


SCENARIOS = (
    Scenario(name="intake", about="webhooks taken by the ingress alone", play=intake.play, roles=("ingress",)),
    Scenario(name="hostile", about="webhooks taken by the ingress alone beside hostile clients", play=hostile.play, roles=("ingress",)),
    Scenario(name="cost", about="processor time of a message over the whole path, and of its stages beside their floors", play=cost.play),
    Scenario(name="latency", about="time from a message to its reply at a steady rate", play=latency.play),
    Scenario(name="slow-model", about="replies a second while each takes the model long", play=slow_model.play),
    Scenario(name="kill", about="time to a reply while streams and sender are killed with -9", play=kill.play),
    Scenario(name="workers", about="cost of a message with several stream workers", play=workers.play),
    Scenario(name="plain", about="cost, and what a kill does, where the same libraries are used plainly", play=plain.play),
    Scenario(name="pages", about="time and cost of the pages: first byte, open pages, metrics", play=pages.play),
    Scenario(name="ids", about="what remembering ids for eight days costs", play=ids.play, roles=("streams",), only_if_named=True),
    Scenario(name="memory", about="memory of each process over half an hour at half load", play=memory.play, only_if_named=True),
)
