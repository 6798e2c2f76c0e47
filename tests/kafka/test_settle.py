"""infra.kafka.producer.settle: all acknowledgements are waited for, and none is left unread."""

import asyncio

import pytest

from infra.kafka.producer import ProduceError, settle


def _futures(count: int) -> list[asyncio.Future[int]]:
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def test_the_first_error_is_raised_when_all_are_known() -> None:
    """An error does not end the wait: what was produced beside it is known before anybody acts on it."""
    first, second, third = _futures(3)
    settling = asyncio.create_task(settle([first, second, third]))
    second.set_exception(ProduceError("two"))
    third.set_exception(ProduceError("three"))
    await asyncio.wait([settling], timeout=0.05)
    assert not settling.done()
    first.set_result(1)
    with pytest.raises(ProduceError, match="two"):
        await settling


async def test_nothing_to_wait_for_and_all_well() -> None:
    """Without records, or with all of them acknowledged, it returns."""
    await settle([])
    futures = _futures(2)
    for future in futures:
        future.set_result(1)
    await settle(futures)


async def test_whoever_stops_waiting_gives_up_on_all() -> None:
    """Cancelled, it cancels what it waited for, so that a late error is nobody's."""
    futures = _futures(3)
    settling = asyncio.create_task(settle(futures))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert all(future.cancelled() for future in futures)
