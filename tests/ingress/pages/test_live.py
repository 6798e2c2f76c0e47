"""What changes on an open page is sent, soon, once, and no more often than it must be looked for."""

import asyncio
import itertools

import pytest

from infra.cassandra.session import CassandraAwayError
from ingress.pages.live import Change, Item, Schedule, Turns, changes, version_of


def item(name: str, version: str) -> Item:
    return Item(name, version, lambda: f"<li id={name}>{version}</li>")


class Page:
    """A page whose items a test changes; time goes on by itself, quickly."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.written = asyncio.Event()
        self.reads = 0

    async def read(self) -> list[Item]:
        self.reads += 1
        return self.items


async def test_the_whole_page_first_then_what_is_other() -> None:
    """Each once; what is gone changes the ids."""
    page = Page()
    page.items = [item("a", "1"), item("b", "1")]
    loop = asyncio.get_running_loop()
    stream = changes(page.read, page.written, lambda: False, loop.time)
    assert await anext(stream) == Change("<li id=a>1</li><li id=b>1</li>", ["a", "b"])
    page.items = [item("c", "1"), item("a", "2"), item("b", "1")]
    page.written.set()
    assert await asyncio.wait_for(anext(stream), 1) == Change("<li id=c>1</li><li id=a>2</li>", ["c", "a", "b"])
    page.items = [item("c", "1")]
    page.written.set()
    assert await asyncio.wait_for(anext(stream), 1) == Change("", ["c"])
    await stream.aclose()


async def test_an_empty_page_says_that_it_is_there() -> None:
    """So that the browser knows that it is live; and the stream ends with the process."""
    page = Page()
    over = False
    stream = changes(page.read, page.written, lambda: over, asyncio.get_running_loop().time)
    assert await anext(stream) == Change("", [])
    over = True
    assert [change async for change in stream] == []


def test_when_it_is_looked() -> None:
    """Soon after something was written and again as history may be behind, never more than five times a second, at least every ten."""
    schedule = Schedule(0.0)
    schedule.told(100.0)
    looks: list[float] = []
    now = 100.0
    while len(looks) < 11:
        now = max(now, schedule.next_at())
        schedule.looked(now)
        looks.append(round(now - 100, 2))
    assert looks[0] <= 0.2
    assert all(later - sooner >= 0.2 - 1e-9 for sooner, later in itertools.pairwise(looks))
    assert looks[-2] == 12.0
    assert looks[-1] == 22.0
    assert sum(look <= 1.0 for look in looks) >= 5


def test_what_is_written_all_the_time_is_looked_at_less_often() -> None:
    """Within half a second all the same, so that it is shown within one; and soon again when it is quiet."""
    schedule = Schedule(0.0)
    now, looks = 100.0, []
    while now < 110.0:
        now += 0.02
        schedule.told(now)
        if now >= schedule.next_at():
            schedule.looked(now)
            looks.append(now)
    assert 18 <= len(looks) <= 26
    assert all(later - sooner < 0.5 for sooner, later in itertools.pairwise(looks))
    schedule.told(now + 30)
    assert schedule.next_at() < now + 30.1


def test_versions_are_of_what_is_shown() -> None:
    """The same for the same, another for anything else."""
    assert version_of(["a", 1]) == version_of(["a", 1]) != version_of(["a", 2])


class Reading:
    """What pages read: it takes 10 ms; `most` is how many were reading at once."""

    def __init__(self) -> None:
        self._under_way = 0
        self.most = 0

    async def read(self) -> list[Item]:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(0.01)
        self._under_way -= 1
        return []


async def fail() -> list[Item]:
    raise CassandraAwayError("away")


async def test_many_pages_take_turns() -> None:
    """However many look at once, they leave most of the time to others; one that fails gives its turn back."""
    turns, reading, loop = Turns(credit_s=0.0), Reading(), asyncio.get_running_loop()
    with pytest.raises(CassandraAwayError):
        await turns.take(fail)
    begun = loop.time()
    await asyncio.gather(*(turns.take(reading.read) for _ in range(6)))
    assert reading.most == 2
    # Three rounds of two; before the last one the other two are paid for.
    assert loop.time() - begun >= 2 * 2 * 3 * 0.01 + 0.01


async def test_a_few_pages_do_not_wait() -> None:
    """What was just read is paid for later: who looks again because history was not there yet is not held up by that."""
    turns, reading, loop = Turns(credit_s=60.0), Reading(), asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(20):
        await turns.take(reading.read)
    assert loop.time() - begun < 20 * 3 * 0.01
    held_up = Turns(credit_s=0.1)
    begun = loop.time()
    for _ in range(20):
        await held_up.take(reading.read)
    # All but the last are paid for, less what there is on credit.
    assert loop.time() - begun >= 19 * 3 * 0.01 + 0.01 - 0.1
