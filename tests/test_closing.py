"""infra.closing: what is under way ends in time once everything ends."""

import asyncio

import pytest

from infra.closing import Closing


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
