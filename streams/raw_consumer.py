"""Faust's consumer as the streams use it: it hands on what it fetched batch by batch, and commits what it is told.

Faust keeps what its assignor, its tables and its rebalances need. What it would do with each record by itself (four tasks, a queue and two
generators) is left out, because the host does all of it anew; infra/decisions/0023-fetched-batches.md has what that saves, and why no
rebalance can hang on it. What Faust concludes about offsets is not used (infra/decisions/0002-faust.md).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
import uvloop
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from streams.faust_host import Fetched

log = structlog.get_logger()

Take = Callable[[Fetched, int], Awaitable[None]]
"""Is given what was fetched, and the generation it is of; waits while it has enough."""

Write = Callable[[Mapping[int, int]], Awaitable[bool]]
Commit = Callable[[Write], Awaitable[bool]]

_FETCH_S = 1.0


class RawConsumer(Consumer):  # type: ignore[misc]  # Faust's types are not followed
    """Gives records of `raw_topic` to `take` and commits what `commit` gives to its argument."""

    logger = logging.getLogger("faust.consumer")  # mode would take the name of our module

    def __init__(self, transport: Any, *, raw_topic: str, take: Take, commit: Commit, **options: Any) -> None:
        self._raw_topic = raw_topic
        self._take = take
        self._commit_of = commit
        super().__init__(transport, **options)

    def _new_consumer_thread(self) -> "_Thread":
        return _Thread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand on until Faust stops its fetcher, as it does for each rebalance and at the end."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._hand_on()
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _hand_on(self) -> None:
        fetched, _ = await self._wait_next_records(_FETCH_S)
        if self.should_stop or not fetched:
            return
        if not self.flow_active:
            # Partitions are being taken away or restored: what was fetched is not handled, and must come again.
            await self._seek_back()
            return
        mine = {place.partition: records for place, records in fetched.items() if place.topic == self._raw_topic}
        await self._take(mine, self.app.consumer_generation_id)

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # noqa: BLE001  # whatever it is: at the end of the restoring Faust seeks once more
            log.warning("what was fetched during a rebalance could not be gone back for yet", error=f"{type(error).__name__}: {error}")

    async def _commit_tps(self, *_: object, **__: object) -> bool:
        # Faust's own idea takes what it has not delivered for acknowledged, and forgets what it failed to commit once.
        return await self._commit_of(self._write)

    async def _write(self, offsets: Mapping[int, int]) -> bool:
        assigned = self.assignment()
        mine = {place: offset for number, offset in offsets.items() if (place := TP(self._raw_topic, number)) in assigned}
        return bool(mine) and bool(await self._commit(mine))

    async def verify_all_partitions_active(self) -> None:
        """Look for nothing: the host compares what it was given with the ends of the log, and Faust would look at its own streams."""


class _Thread(AIOKafkaConsumerThread):  # type: ignore[misc]  # as above
    """Its thread, which is asked for records without its queue of methods: that starts four tasks for each question."""

    logger = logging.getLogger("faust.consumer")

    def __init__(self, consumer: RawConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._close_thread_loop_on_stop = True  # the loop is nobody else's

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        consumer = self._ensure_consumer()
        ours, theirs = asyncio.get_running_loop(), self.thread_loop
        answer: asyncio.Future[Any] = ours.create_future()
        fetching: asyncio.Task[Any] | None = None

        def begin() -> None:
            nonlocal fetching
            records = self._fetch_records(consumer, active_partitions, timeout=timeout, max_records=consumer._max_poll_records)  # noqa: SLF001
            fetching = theirs.create_task(records)
            fetching.add_done_callback(lambda done: ours.call_soon_threadsafe(_answer, answer, done))

        def end() -> None:
            if fetching is not None:
                fetching.cancel()

        theirs.call_soon_threadsafe(begin)
        try:
            return await answer
        except asyncio.CancelledError:
            theirs.call_soon_threadsafe(end)
            raise


def _answer(answer: asyncio.Future[Any], fetching: asyncio.Task[Any]) -> None:
    """Hand over what a fetch brought, in the loop of whoever asked, who may be gone."""
    error = None if fetching.cancelled() else fetching.exception()
    if answer.done():
        return
    if fetching.cancelled():
        answer.cancel()
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(fetching.result())
