"""The order of faults: drawn from the seed alone, every kind before any comes again."""

import random

from tests.torture.run import PROFILES
from tests.torture.schedule import schedule

LONG, SHORT = PROFILES["long"], PROFILES["short"]
SERVERS_AND_ROLES = {"ingress", "streams", "sinks", "kafka", "cassandra"}


def _names(seed: int, *, kills: int, others: bool) -> list[str]:
    lengths = (LONG if others else SHORT).lengths
    return [planned.name for planned in schedule(random.Random(seed), kills=kills, lengths=lengths, others=others)]


def test_a_seed_gives_the_same_faults_again_and_another_one_others() -> None:
    """So a failing run can be done once more."""
    assert _names(7, kills=60, others=True) == _names(7, kills=60, others=True)
    assert _names(7, kills=60, others=True) != _names(8, kills=60, others=True)


def test_a_short_run_kills_and_pauses_every_role_and_server() -> None:
    """Twelve kills and pauses are one of each kind, and workers join and leave once."""
    names = _names(7, kills=12, others=False)
    kills = names[::2]
    assert len(kills) == len(set(kills)) == 12
    for how in ("kill", "pause"):
        assert {name.removeprefix(f"{how} ") for name in kills if name.startswith(how)} == SERVERS_AND_ROLES
    assert {name for name in kills if name.startswith("takeover")} == {"takeover streams", "takeover sinks"}
    assert names[1::2].count("join and leave") == 1


def test_a_long_run_has_every_kind_of_fault() -> None:
    """Sixty kills and pauses, among them the servers' absences, and as many other faults between them."""
    names = _names(7, kills=60, others=True)
    assert len(names) == 120
    assert {"kafka away", "cassandra away", "cassandra slow", "restart", "block", "clock", "platform down", "model slow"} <= set(names)
