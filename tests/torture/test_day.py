"""A short day, lived and replayed; `python -m tests.torture.day` does a whole one."""

import random
import sys
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.torture.day import is_to_differ, live_and_replay
from tests.torture.load import Load

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


async def test_a_day_replayed_is_the_same(settings: Settings, tmp_path: Path) -> None:
    """Three times, killed, from archive and log; with another agent exactly what was made to differ does; nothing reaches the platform."""
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    day = await live_and_replay(settings, Load(events=2_000, conversations=100, seed=seed, large_body=200), tmp_path)
    assert day.wrong == []
    assert len(day.lines) >= 7


def test_some_texts_are_answered_differently() -> None:
    share = sum(is_to_differ(f"text {number}") for number in range(1_000)) / 1_000
    assert 0.05 < share < 0.2
