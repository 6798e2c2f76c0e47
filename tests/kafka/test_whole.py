"""infra.kafka.whole: what must not be cut off is not, and who was cancelled stays so."""

import asyncio

import pytest

from infra.kafka.whole import whole


async def test_it_ends_before_its_waiter_is_cancelled() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    waiting = asyncio.create_task(whole(work()))
    await begun.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


async def test_it_is_not_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.kafka.whole._PATIENCE_S", 0.01)
    work = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(whole(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    work.cancel()


async def test_its_error_is_the_waiter_s() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await whole(work())
