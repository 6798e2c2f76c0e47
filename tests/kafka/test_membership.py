"""infra.kafka.corrections on a real broker: who is no member of a group commits nothing for it, and who reads long stays a member."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError

from infra.kafka.admin import create_topics  # whose package corrects the client
from infra.settings import Settings
from schemas.topics import RAW
from tests.reading import committed_offset

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

SESSION_S = 2.0


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """Does something when partitions are assigned."""

    def __init__(self, assigned: Callable[[], Awaitable[object]]) -> None:
        self._assigned = assigned

    async def on_partitions_revoked(self, _: set[TopicPartition]) -> None:
        pass

    async def on_partitions_assigned(self, _: set[TopicPartition]) -> None:
        await self._assigned()


async def nothing() -> None:
    """Do nothing."""


@asynccontextmanager
async def member(settings: Settings, assigned: Callable[[], Awaitable[object]] = nothing) -> AsyncIterator[Any]:
    """Yield a member of a group that has all partitions of [raw]."""
    await create_topics(settings)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        group_id=settings.topic_prefix + "group",
        enable_auto_commit=False,
        session_timeout_ms=int(SESSION_S * 1000),
        heartbeat_interval_ms=200,
    )
    consumer.subscribe([RAW.named(settings.topic_prefix)], listener=Listener(assigned))
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_who_was_removed_commits_nothing_for_a_group_without_members(settings: Settings) -> None:
    """Whoever took over may have committed more, and claimed: the broker would take it from anybody."""
    async with member(settings) as consumer:
        place = TopicPartition(RAW.named(settings.topic_prefix), 0)
        await consumer.commit({place: 7})
        coordinator = consumer._coordinator
        coordinator._coordination_task.cancel()  # it would join again
        await asyncio.wait([coordinator._coordination_task])
        await coordinator._stop_heartbeat_task()
        await coordinator._maybe_leave_group()
        coordinator.reset_generation()
        with pytest.raises(CommitFailedError):
            await consumer.commit({place: 3})
        assert await committed_offset(settings, "group", place) == 7


async def test_who_reads_for_longer_than_a_session_stays_a_member(settings: Settings) -> None:
    """What must be known of partitions before they are worked on may be much: nobody else gets them meanwhile."""
    began, ended = [], asyncio.Event()

    async def read() -> None:
        began.append(time.monotonic())
        await asyncio.sleep(2 * SESSION_S)  # it is the time itself that counts
        ended.set()

    async with member(settings, read) as consumer:
        await ended.wait()
        await consumer.commit({TopicPartition(RAW.named(settings.topic_prefix), 0): 7})
    assert len(began) == 1
