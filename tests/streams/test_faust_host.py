"""streams.faust_host: what is acknowledged to Faust, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

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

    def __init__(self, committed: int = 1, *, there: tuple[int, ...] = tuple(range(10))) -> None:
        self.committed = committed
        self.there = there
        self.acknowledged: list[int] = []
        self.errors: list[str] = []

    async def next_to_read(self, _: str, __: int) -> int:
        return self.committed

    async def first_at(self, _: str, __: int, offset: int) -> int:
        return min(each for each in self.there if each >= offset)

    async def events(self, *offsets: int, generation: int = 1) -> AsyncIterator[Any]:
        for offset in offsets:
            key = str(offset).encode()
            message = SimpleNamespace(partition=0, offset=offset, key=key, value=b"", headers=[], timestamp=0.0, generation_id=generation)
            yield SimpleNamespace(message=message, ack=lambda offset=offset: self.acknowledged.append(offset))

    def host(self, stage: Stage) -> FaustHost:
        def fatal(error: BaseException) -> None:
            self.errors.append(str(error))

        return FaustHost(stage, topic="raw", log=self, generation=lambda: 1, on_fatal=fatal, name="test")


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
    stage, delivery = Stage(), Delivery(5)
    host = delivery.host(stage)
    await host.consume(delivery.events(5, 6))
    await _idle()
    await host.consume(delivery.events(5, 6, 7))
    await _idle()
    assert (stage.handled, delivery.acknowledged, delivery.errors) == ([5, 6, 7], [5, 6, 7], [])


async def test_what_comes_too_late_stops_the_process() -> None:
    """An offset below what is under way, and not part of it, is a hole in the order: nothing after it is taken."""
    stage, delivery = Stage(), Delivery(2)
    stage.gates[2] = asyncio.Event()
    await delivery.host(stage).consume(delivery.events(2, 1, 3))
    await _idle()
    assert delivery.errors == ["offset 1 after 2"]
    assert (stage.handled, delivery.acknowledged) == ([], [])


@pytest.mark.parametrize(("offsets", "skipped", "acknowledged"), [((2, 3), 1, []), ((1, 3), 2, [1])])
async def test_what_was_never_given_stops_the_process(offsets: tuple[int, ...], skipped: int, acknowledged: list[int]) -> None:
    """Records that are skipped, at the committed offset or later, would be committed over: nothing after them is taken."""
    stage, delivery = Stage(), Delivery(1)
    await delivery.host(stage).consume(delivery.events(*offsets))
    await _idle()
    assert delivery.errors == [f"partition 0 goes on at {skipped + 1}, and {skipped} was not given"]
    assert delivery.acknowledged == acknowledged


async def test_what_the_log_does_not_hold_is_no_hole() -> None:
    """Offsets that are not there, such as a transaction's marks, are gone on over."""
    stage, delivery = Stage(), Delivery(1, there=(2, 5))
    await delivery.host(stage).consume(delivery.events(2, 5))
    await _idle()
    assert (delivery.acknowledged, delivery.errors) == ([2, 5], [])


@pytest.mark.parametrize("is_checked", [True, False])
async def test_what_was_fetched_before_a_rebalance_is_passed_over(monkeypatch: pytest.MonkeyPatch, *, is_checked: bool) -> None:
    """It is delivered again from the committed offset on; taken as it comes it would be a hole, and stop the process at each rebalance."""
    if not is_checked:
        monkeypatch.setattr("streams.faust_host.without", lambda name: name == "generation")
    stage, delivery = Stage(), Delivery(3)
    host = delivery.host(stage)
    await host.consume(delivery.events(5, generation=0))
    await host.consume(delivery.events(3, 4, 5))
    await _idle()
    assert (delivery.errors == []) == is_checked
    assert stage.handled == [3, 4, 5]
