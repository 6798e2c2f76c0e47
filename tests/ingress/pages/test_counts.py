"""Counting failures and unknown sends for the overview: real figures, and no more reads than they are worth."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from infra.cassandra.dead_letters import Group
from infra.cassandra.sends import UnknownSendPage
from infra.cassandra.session import CassandraAwayError
from ingress.pages import counts
from ingress.pages.counts import Counter

HISTORY: Any = SimpleNamespace()


class Clock:
    """Time that a test moves; each reading of letters takes `took_s`."""

    def __init__(self) -> None:
        self.now, self.took_s, self.reads = 0.0, 0.01, 0
        self.answer = asyncio.Event()
        self.answer.set()

    def __call__(self) -> float:
        return self.now

    async def groups(self, *_: object, **__: object) -> tuple[list[Group], None]:
        self.reads += 1
        await self.answer.wait()
        self.now += self.took_s
        return [Group(cause="a", stage="streams", open=self.reads, redriven=0, first="", last="")], None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    async def sends(*_: object, **__: object) -> UnknownSendPage:
        return UnknownSendPage(sends=[], before=None)

    monkeypatch.setattr(counts, "read_groups", clock.groups)
    monkeypatch.setattr(counts, "read_unknown_sends", sends)
    return clock


async def test_a_count_is_good_for_as_long_as_it_is_worth(clock: Clock) -> None:
    """A cheap one for a second, a dear one for twenty times what it took; each tenant has its own."""
    counter = Counter(clock)

    async def opened(tenant: str) -> int:
        counts = await counter.count(HISTORY, tenant)
        assert counts is not None
        return counts.open_letters

    assert await opened("a") == 1
    assert await opened("a") == 1
    assert await opened("b") == 2
    clock.now += 1.1
    clock.took_s = 3.0
    assert await opened("a") == 3
    clock.now += 59
    assert await opened("a") == 3
    clock.now += 2
    assert await opened("a") == 4


async def test_a_count_that_takes_long_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one is told meanwhile, or that there is none yet; all who ask share it, and its error is raised."""
    monkeypatch.setattr(counts, "_PATIENCE_S", 0.01)
    counter = Counter(clock)
    clock.answer.clear()
    assert set(await asyncio.gather(*(counter.count(HISTORY, "a") for _ in range(2)))) == {None}
    clock.answer.set()
    assert await counter.count(HISTORY, "a") is not None
    assert clock.reads == 1
    clock.now += 100
    clock.answer.clear()
    old = await counter.count(HISTORY, "a")
    assert old is not None
    assert old.open_letters == 1
    clock.answer.set()

    async def away(*_: object, **__: object) -> None:
        raise CassandraAwayError("away")

    monkeypatch.setattr(counts, "read_groups", away)
    with pytest.raises(CassandraAwayError):
        await counter.count(HISTORY, "b")
