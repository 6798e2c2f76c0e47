"""Faust's consumer as the streams use it: it hands on what it fetched batch by batch, and commits what it is told.

Faust keeps what its assignor, its tables and its rebalances need. What it would do with each record by itself (four tasks, a queue and two
generators) is left out, because the host does all of it anew; infra/decisions/0023-fetched-batches.md has what that saves, and why no
rebalance can hang on it. What Faust concludes about offsets is not used (infra/decisions/0002-faust.md).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP
from mode import Service

from infra.closing import Closing
from streams.faust_host import Fetched

log = structlog.get_logger()

Take = Callable[[Fetched, int], Awaitable[None]]
"""Is given what was fetched, and the generation it is of; waits while it has enough."""

Write = Callable[[Mapping[int, int]], Awaitable[bool]]
Commit = Callable[[Write], Awaitable[bool]]

_FETCH_S = 1.0
_FAREWELL_S = 2.0


class RawConsumer(Consumer):  # type: ignore[misc]  # Faust's types are not followed
    """Gives records of `raw_topic` to `take` and commits what `commit` gives to its argument."""

    logger = logging.getLogger("faust.consumer")  # mode would take the name of our module

    def __init__(self, transport: Any, *, raw_topic: str, take: Take, commit: Commit, **options: Any) -> None:
        self._raw_topic = raw_topic
        self._take = take
        self._commit_of = commit
        self._leaving = Closing()
        super().__init__(transport, **options)

    def _new_consumer_thread(self) -> "_InOurLoop":
        return _InOurLoop(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand on until Faust stops its fetcher, as it does for each rebalance and at the end."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._hand_on()
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _hand_on(self) -> None:
        # Neither what aiokafka has already nor lanes with room make anybody wait: the loop belongs to others too.
        await asyncio.sleep(0)
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
        # After a crash it ends before the application does; and aiokafka waits for a coordinator for ever.
        with suppress(ConsumerStoppedError, TimeoutError):
            async with self._leaving.limited(None):
                return bool(mine) and bool(await self._commit(mine))
        return False

    def leave(self) -> None:
        """Wait no longer than a moment for any commit from now on: what is not committed is repeated, which its ids make harmless."""
        self._leaving.close(within_s=_FAREWELL_S)

    async def verify_all_partitions_active(self) -> None:
        """Look for nothing: the host compares what it was given with the ends of the log, and Faust would look at its own streams."""


class _Task:
    """Takes the place of mode's thread: a task that runs the service."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="consumer")

    def stop(self) -> None:
        """Wait for nothing: whoever stops the service has waited until it was shut down."""

    async def _serve(self) -> None:
        try:
            await self._service._serve()  # noqa: SLF001  # as a thread does
        except Exception:  # noqa: BLE001  # who started it was told, and so was the application
            self._service.set_shutdown()


class _InOurLoop(AIOKafkaConsumerThread):  # type: ignore[misc]  # as above
    """What Faust runs in a thread of its own, run in the loop of everybody else: handing records over costs more than fetching them."""

    logger = logging.getLogger("faust.consumer")
    Worker = _Task

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        consumer = self._ensure_consumer()
        return await self._fetch_records(consumer, active_partitions, timeout=timeout, max_records=consumer._max_poll_records)  # noqa: SLF001

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method of its own; ConsumerStoppedError once it has ended: nobody answers any more, and who stops must not wait."""
        if self.should_stop or self.method_queue.should_stop:
            raise ConsumerStoppedError
        return await super().call_thread(fun, *args, **kwargs)

    async def _gather_remaining_tasks(self) -> None:
        """End none of the tasks of the loop: they are not all its own."""

    async def _keepalive2(self) -> None:
        """Wake no thread."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _thread_keepalive(self) -> None:
        """Nor this one."""
