"""Which faults a run has and in which order: drawn from its seed, every kind before any comes again."""

import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from infra.simulator.faults import Fault as Simulated
from tests.torture.faults import (
    Ground,
    Lengths,
    away,
    block,
    join_and_leave,
    kill,
    kill_server,
    misbehave,
    pause,
    pause_server,
    platform_down,
    roll,
    slow_cassandra,
    step_clock,
)

# What a worker or server needs to work again, about: the load is spread over the sum.
_RECOVERY_S = 8.0
_WORKERS = 7
_ROLES = ("ingress", "streams", "sinks")

Act = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True)
class Planned:
    """A fault to come, and about how many seconds it takes with all that follows from it."""

    name: str
    seconds: float
    act: Act


def schedule(chance: random.Random, *, kills: int, lengths: Lengths, others: bool) -> list[Planned]:
    """Return so many kills and pauses in the order of the seed, with another kind of fault after each.

    First workers join and leave; without `others`, only platform and model misbehave after that.
    """
    planned: list[Planned] = []
    joins, *more = _others(chance, lengths)
    between = itertools.chain([joins], _rounds(chance, _misbehaviours(lengths) + (more if others else [])))
    rounds = 0
    while len(planned) < 2 * kills:
        kinds = _kills(lengths, first=rounds == 0)
        chance.shuffle(kinds)
        for kind in kinds[: kills - len(planned) // 2]:
            planned += [kind, next(between)]
        rounds += 1
    return planned


def _rounds(chance: random.Random, kinds: Sequence[Planned]) -> Iterator[Planned]:
    """Yield every kind in an order of chance, then again."""
    while True:
        yield from chance.sample(kinds, len(kinds))


def _kills(lengths: Lengths, *, first: bool) -> list[Planned]:
    """Return one of every kind of kill and pause; the first ones are as long as `lengths.pause`."""
    pause_s = lengths.pause if first else lengths.again
    kinds = [Planned(f"kill {role}", _RECOVERY_S, partial(kill, role=role)) for role in _ROLES]
    kinds += [Planned(f"pause {role}", pause_s + _RECOVERY_S, partial(pause, role=role, seconds=pause_s)) for role in _ROLES]
    kinds += [Planned(f"takeover {role}", lengths.away + _RECOVERY_S, partial(away, role=role)) for role in ("streams", "sinks")]
    for server in ("kafka", "cassandra"):
        kinds += [
            Planned(f"kill {server}", 2 * _RECOVERY_S, partial(kill_server, server=server, seconds=0.0)),
            Planned(f"pause {server}", pause_s + _RECOVERY_S, partial(pause_server, server=server, seconds=pause_s)),
        ]
        if lengths.pause > lengths.again:
            away_s = pause_s + 2 * _RECOVERY_S
            kinds.append(Planned(f"{server} away", away_s, partial(kill_server, server=server, seconds=pause_s)))
    return kinds


def _others(chance: random.Random, lengths: Lengths) -> list[Planned]:
    """Return what is neither kill nor pause, first what every run has."""
    return [
        Planned("join and leave", lengths.again + _RECOVERY_S, join_and_leave),
        Planned("restart", _WORKERS * _RECOVERY_S, roll),
        Planned("cassandra slow", lengths.again + _RECOVERY_S, slow_cassandra),
        Planned("block", lengths.block + _RECOVERY_S, partial(block, role=chance.choice(_ROLES))),
        Planned("clock", lengths.window, step_clock),
        Planned("clock", lengths.window, step_clock),
    ]


def _misbehaviours(lengths: Lengths) -> list[Planned]:
    """Return what platform and model do; shares are such that hardly anything is tried for the third time, which would be its last."""
    of_platform = [
        ("error", Simulated(probability=0.3)),
        ("html", Simulated(probability=0.05)),
        ("html", Simulated(probability=0.1, accepted=True)),
        ("throttle", Simulated(probability=0.3, code=130429)),
        ("throttle", Simulated(probability=0.1, code=131056)),
        ("slow", Simulated(probability=0.05, seconds=lengths.slow_answer)),
        ("refuse", Simulated(probability=0.3)),
    ]
    of_model = [
        ("slow", Simulated(probability=0.05, seconds=lengths.slow_model)),
        *((name, Simulated(probability=0.3)) for name in ("throttle", "error", "nonsense", "empty", "cut")),
    ]
    return [
        *(
            Planned(f"{where} {name}", lengths.window, partial(misbehave, where=where, name=name, fault=fault))
            for where, kinds in (("platform", of_platform), ("model", of_model))
            for name, fault in kinds
        ),
        Planned("platform down", lengths.window, platform_down),
    ]
