"""Told like a floor, though it is none: the lag watcher of an ingress alone, so that what it costs can be told apart."""

import asyncio

from infra.bench.floors.told import Work, do_as_told
from infra.lag.watcher import LagWatcher
from infra.settings import load_settings


async def _open() -> Work:
    watcher = LagWatcher(load_settings())
    await watcher.look()

    async def work(seconds: float) -> int:
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep(seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return 1

    return work


if __name__ == "__main__":
    do_as_told(_open)
