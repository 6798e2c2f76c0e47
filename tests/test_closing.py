"""infra.closing: what is under way ends in time once everything ends."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from infra.closing import Closing, until_stopped


async def test_what_is_under_way_ends_when_all_does() -> None:
    """Whatever time it had, and whatever comes after that has no more; what was ready sooner is not held up."""
    closing, begun = Closing(), asyncio.Event()

    async def work(timeout_s: float | None) -> None:
        async with closing.limited(timeout_s):
            begun.set()
            await asyncio.Event().wait()

    for timeout_s in (None, 600.0):
        begun.clear()
        working = asyncio.create_task(work(timeout_s))
        await begun.wait()
        closing.close()
        with pytest.raises(TimeoutError):
            await working
    assert closing.is_closed
    with pytest.raises(TimeoutError):
        await work(None)
    async with closing.limited(None):
        pass


@pytest.mark.parametrize("is_closed", [False, True])
async def test_a_limit_of_its_own_stays(*, is_closed: bool) -> None:
    """A longer farewell is no reprieve."""
    closing = Closing()

    async def work() -> None:
        async with closing.limited(0.01):
            if is_closed:
                closing.close(within_s=600.0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()


async def numbers(closed: list[bool], *, endless: bool) -> AsyncGenerator[int, None]:
    try:
        yield 1
        yield 2
        if endless:
            await asyncio.Event().wait()
    finally:
        closed.append(True)


async def test_until_stopped_gives_all_there_is() -> None:
    """And closes what it read from."""
    closed: list[bool] = []
    assert [each async for each in until_stopped(numbers(closed, endless=False), asyncio.Event())] == [1, 2]
    assert closed == [True]


@pytest.mark.parametrize("how", ["told", "cancelled"])
async def test_until_stopped_ends_while_it_waits(how: str) -> None:
    """Told to, it ends; cancelled, it is cancelled; either way what it read from is closed."""
    closed: list[bool] = []
    stopping, seen = asyncio.Event(), list[int]()

    async def read() -> None:
        async for each in until_stopped(numbers(closed, endless=True), stopping):
            seen.append(each)

    reading = asyncio.create_task(read())
    async with asyncio.timeout(10):
        while len(seen) < 2:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if how == "told":
            stopping.set()
            await reading
        else:
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
    assert (seen, closed) == ([1, 2], [True])
