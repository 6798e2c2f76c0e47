"""infra.collector: what cycles hold is given back within seconds, however few allocations there are."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import collector
from infra.kafka.admin import create_topics
from infra.role_server import RoleServer
from infra.servers.state import free_ports
from infra.settings import Settings
from ingress.app import create_app


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


async def collected() -> None:
    """Return when a cycle that is made now is gone."""
    collector.tune_collector()
    gone = weakref.ref(Holder())
    assert gone() is not None
    async with asyncio.timeout(20):
        while gone() is not None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def test_cycles_are_collected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_COLLECT_S", 0.01)
    collecting = asyncio.create_task(collector.collect_often())
    await collected()
    collecting.cancel()


async def test_they_are_where_a_role_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(collector, "_COLLECT_S", 0.01)
    server = RoleServer(Settings(home=tmp_path, metrics_port=free_ports(1)[0], worker="test", _env_file=None), ready=lambda: True)
    await server.start()
    try:
        await collected()
    finally:
        await server.stop()


@pytest.mark.servers
async def test_they_are_in_the_ingress(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(collector, "_COLLECT_S", 0.01)
    await create_topics(settings)
    app = create_app(settings)
    async with app.router.lifespan_context(app), asyncio.timeout(60):
        while not await app.state.readiness.check():  # noqa: ASYNC110  # else it is stopped in the middle of connecting
            await asyncio.sleep(0.05)
        await collected()
