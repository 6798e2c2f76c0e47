"""Stops aiokafka's consumers, also while their broker is away."""

import asyncio
from typing import Any


async def stop_consumer(consumer: Any) -> None:
    """Stop it and close its connections.

    aiokafka cancels its fetches and waits for them unguarded: one that waits to be tried again, as all do whose broker is away, raises its
    CancelledError into whoever stops the consumer, who then seems to be cancelled, and the connections stay open.
    """
    fetches = list(consumer._fetcher._pending_tasks) if consumer._fetcher is not None else []  # noqa: SLF001
    for fetch in fetches:
        fetch.cancel()
    await asyncio.gather(*fetches, return_exceptions=True)
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # A fetch that began in between; the rest of what stopping does is this.
        await consumer._client.close()  # noqa: SLF001
