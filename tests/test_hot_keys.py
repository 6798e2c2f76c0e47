"""Counting keys in bounded memory."""

import random
from collections import Counter

import pytest

from infra.hot_keys import HotKeys


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_as_right_as_they_say(seed: int) -> None:
    """Against exact counts of a few loud and many quiet keys, in any order: never too high, short by at most what is told."""
    chance = random.Random(seed)
    keys = [b"%d" % int(chance.paretovariate(0.6)) for _ in range(20_000)]
    exact = Counter(keys)
    hot = HotKeys(capacity=50)
    for key in keys:
        hot.add(key, 10)
        assert len(hot) < 100
    assert (hot.records, hot.bytes) == (20_000, 200_000)
    found = {each.key: each for each in hot.top(100)}
    assert all(each.records <= exact[key] <= each.records + each.missed for key, each in found.items())
    assert all(each.missed <= 20_000 / 50 for each in found.values())
    assert {key for key, count in exact.items() if count > 20_000 / 50} <= found.keys()


def test_few_keys_are_counted_exactly() -> None:
    """The loudest first; with their bytes."""
    hot = HotKeys()
    for number in range(10):
        for _ in range(number):
            hot.add(b"%d" % number, 100)
    assert [(each.key, each.records, each.bytes, each.missed) for each in hot.top(2)] == [(b"9", 9, 900, 0), (b"8", 8, 800, 0)]
    assert len(hot.top(100)) == 9
    assert HotKeys().top(3) == []
