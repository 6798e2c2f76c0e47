"""The place of a send in its queue: nobody waits for it for long, for the send is stored already."""

import asyncio

import pytest

from infra.settings import Settings
from ingress import queue_position
from ingress.queue_position import QueuePositions


async def test_a_silent_coordinator_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once: they do not wait one after the other, and while it is silent it is not asked again."""
    monkeypatch.setattr(queue_position, "_ASK_S", 0.2)
    positions = QueuePositions(Settings(kafka="127.0.0.1:1", _env_file=None))
    line, asked = asyncio.Lock(), 0

    async def committed(*_: object) -> int:
        nonlocal asked
        asked += 1
        async with line:
            await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(positions._log, "committed", committed)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(positions.position("outbound-high", number, 7) for number in range(50))) == [None] * 50
    assert asked == 50
    assert await positions.position("outbound-high", 1, 7) is None
    assert asked == 50
    await positions.close()
