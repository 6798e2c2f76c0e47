"""Floor: a Faust agent as the manual writes it: empty, or with one table write an event. The command line has `empty` or `table`."""

import asyncio
import logging
import sys
from typing import Any

import faust

from infra.bench.floors import TOPICS
from infra.bench.floors.told import Work, do_as_told
from infra.settings import load_settings


async def _open() -> Work:
    logging.disable(logging.CRITICAL)
    kind = sys.argv[1]
    settings = load_settings()
    app = faust.App(
        settings.topic_prefix + TOPICS[kind] + "-app",
        broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
        datadir=settings.home / TOPICS[kind],
        store="rocksdb://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=settings.partitions,
        stream_recovery_delay=0.0,
        worker_redirect_stdouts=False,
    )
    topic = app.topic(settings.topic_prefix + TOPICS[kind], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    handled = _Handled()
    table = app.Table("rows", key_type=bytes, value_type=bytes, partitions=settings.partitions) if kind == "table" else None

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            if table is not None:
                table[event.key] = event.value
            handled.one()

    app.agent(topic, name="floor")(agent)
    await app.start()
    return handled.wait_for


class _Handled:
    """Counts events; the number it is told is how many more are to come."""

    def __init__(self) -> None:
        self._count = self._wanted = 0
        self._there = asyncio.Event()

    def one(self) -> None:
        self._count += 1
        if self._count >= self._wanted:
            self._there.set()

    async def wait_for(self, more: float) -> int:
        self._wanted += int(more)
        self._there.clear()
        if self._count < self._wanted:
            await self._there.wait()
        return int(more)


if __name__ == "__main__":
    do_as_told(_open)
