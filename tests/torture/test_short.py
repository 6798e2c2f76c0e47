"""A short fault run: every role and both servers killed and paused under load, and nothing lost, doubled or out of order."""

import random
from pathlib import Path

import pytest

from tests.torture.run import PROFILES, Watcher, run

pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(900),
    # Connections of ours whose other side is killed or paused are given up halfway; their sockets are the collector's.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTLED_SHARE = 0.999


class Printing(Watcher):
    def say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201  # captured, and shown for a failing test


async def test_kills_and_pauses_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    """5,000 messages, 12 kills and pauses, every 20th answer of the platform lost: the checker finds nothing, all comes to rest."""
    seed = random.SystemRandom().randrange(1 << 32)
    command = f"python -m tests.torture --profile short --seed {seed}"
    print(command)  # noqa: T201  # a failing run names it
    verdict = await run(seed, PROFILES["short"], command=command, watcher=Printing(), keep=tmp_path)
    report = verdict.report
    assert report.totals == dict.fromkeys(report.totals, 0), "\n".join(verdict.lines())
    assert verdict.came_to_rest, "\n".join(verdict.lines())
    assert report.books.accepted == report.books.sum >= PROFILES["short"].events
    assert report.settlement.lost_answers >= PROFILES["short"].events * PROFILES["short"].ambiguous / 2
    assert report.settlement.settled >= SETTLED_SHARE * report.settlement.told
    assert [each for each in verdict.recovered if each.seconds is None] == []
