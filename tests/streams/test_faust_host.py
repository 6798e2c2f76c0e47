"""streams.faust_host: what is acknowledged to Faust, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from infra.kafka.record import Record
from streams.faust_host import FaustHost


class Stage:
    """Handles a record when it is allowed to."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        if record.offset in self.gates:
            await self.gates[record.offset].wait()
        assert owned()
        self.handled.append(record.offset)


class Delivery:
    """Events as Faust delivers them, noting which were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.errors: list[str] = []

    async def events(self, *offsets: int) -> AsyncIterator[Any]:
        for offset in offsets:
            key = str(offset).encode()
            message = SimpleNamespace(partition=0, offset=offset, key=key, value=b"", headers=[], timestamp=0.0, generation_id=1)
            yield SimpleNamespace(message=message, ack=lambda offset=offset: self.acknowledged.append(offset))

    def host(self, stage: Stage) -> FaustHost:
        def fatal(error: BaseException) -> None:
            self.errors.append(str(error))

        return FaustHost(stage, topic="raw", generation=lambda: 1, on_fatal=fatal, name="test")


async def _idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_acknowledged_in_the_order_of_offsets() -> None:
    """What is done before something earlier is done waits for it."""
    stage, delivery = Stage(), Delivery()
    stage.gates[1] = asyncio.Event()
    await delivery.host(stage).consume(delivery.events(1, 2, 3))
    await _idle()
    assert (stage.handled, delivery.acknowledged) == ([2, 3], [])
    stage.gates[1].set()
    await _idle()
    assert delivery.acknowledged == [1, 2, 3]


async def test_what_is_delivered_twice_is_handled_once() -> None:
    """A repeat of what is under way, as Faust's seek after a start brings it, is passed over and acknowledges nothing early."""
    stage, delivery = Stage(), Delivery()
    stage.gates[1] = asyncio.Event()
    await delivery.host(stage).consume(delivery.events(1, 2, 1, 2, 3))
    await _idle()
    assert (stage.handled, delivery.acknowledged) == ([2, 3], [])
    stage.gates[1].set()
    await _idle()
    assert (stage.handled, delivery.acknowledged, delivery.errors) == ([2, 3, 1], [1, 2, 3], [])


async def test_what_is_done_is_not_done_again() -> None:
    """A repeat of what has been acknowledged already is passed over as well."""
    stage, delivery = Stage(), Delivery()
    host = delivery.host(stage)
    await host.consume(delivery.events(5, 6))
    await _idle()
    await host.consume(delivery.events(5, 6, 7))
    await _idle()
    assert (stage.handled, delivery.acknowledged, delivery.errors) == ([5, 6, 7], [5, 6, 7], [])


async def test_what_comes_too_late_stops_the_process() -> None:
    """An offset below what is under way, and not part of it, is a hole in the order: nothing after it is taken."""
    stage, delivery = Stage(), Delivery()
    stage.gates[2] = asyncio.Event()
    await delivery.host(stage).consume(delivery.events(2, 1, 3))
    await _idle()
    assert delivery.errors == ["offset 1 after 2"]
    assert (stage.handled, delivery.acknowledged) == ([], [])
