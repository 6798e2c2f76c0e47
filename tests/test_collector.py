"""infra.collector: what cycles hold is given back within seconds, however few allocations there are."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from infra import collector


class Holder:
    """Holds itself, as a fetch of aiokafka does."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_cycles_are_collected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_COLLECT_S", 0.01)
    collector.tune_collector()
    gone = weakref.ref(Holder())
    assert gone() is not None
    collecting = asyncio.create_task(collector.collect_often())
    async with asyncio.timeout(20):
        while gone() is not None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    collecting.cancel()
