"""What a replay covers on a real log of which a part is gone: it says from when on everything is there."""

import asyncio
import time

import pytest
from aiokafka import TopicPartition

from infra.archive.archive import Archive
from infra.errors import NotFoundError
from infra.kafka.admin import create_topics
from infra.kafka.bounded import bounded_reader
from infra.kafka.producer import Producer
from infra.settings import Settings
from infra.times import shown_time
from schemas.topics import RAW
from streams.replay.plan import Plan, Request, make_plan
from streams.replay.report import facts
from streams.replay.summary import Counting
from tests.reading import reading_group, records
from tests.topic_settings import forget_before

pytestmark = pytest.mark.servers

KEY = b"wa:1:2"


async def filled(settings: Settings) -> int:
    """Put records into one partition of [raw], all of them handled by streams; return a time in the middle of them."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    for number in range(3):
        await producer.send(RAW.name, key=KEY, value=b"%d" % number)
    await asyncio.sleep(0.05)  # the broker's clock is what tells them apart
    middle_ms = time.time_ns() // 1_000_000
    await asyncio.sleep(0.05)
    for number in range(3):
        await producer.send(RAW.name, key=KEY, value=b"%d" % number)
    await producer.stop()
    async with reading_group(settings, "streams") as group:
        place = TopicPartition(RAW.named(settings.topic_prefix), await partition(settings))
        group.assign([place])
        await group.commit({place: 6})
    return middle_ms


async def partition(settings: Settings) -> int:
    number: int = (await records(settings, RAW.name))[-1].partition
    return number


async def planned(settings: Settings, from_ms: int, to_ms: int) -> Plan:
    async with bounded_reader(settings, group="replay-test", older=Archive(settings)) as reader:
        return await make_plan(reader, settings, Request(from_ms=from_ms, to_ms=to_ms), name="r", now_ms=to_ms)


def told(plan: Plan) -> dict[str, str]:
    return dict(facts(plan, Counting().summary("r", unhandled=0)))


async def test_all_is_there(settings: Settings) -> None:
    """Then nothing is said of it."""
    middle_ms = await filled(settings)
    plan = await planned(settings, middle_ms - 60_000, middle_ms + 60_000)
    assert plan.gone_before == 0
    assert not {"left out", "known from before"} & told(plan).keys()


async def test_what_is_gone_is_said(settings: Settings) -> None:
    """In the compared time it is left out; before it, what was known then is not known; and where all is gone, nothing is made up."""
    middle_ms = await filled(settings)
    await forget_before(settings, RAW.name, await partition(settings), 4)
    first_ms = min(record.timestamp for record in await records(settings, RAW.name))
    plan = await planned(settings, middle_ms - 60_000, middle_ms + 60_000)
    assert plan.gone_before == first_ms
    assert told(plan)["left out"].startswith(f"what was received before {shown_time(first_ms)} ")
    later = await planned(settings, first_ms, middle_ms + 60_000)
    assert told(later)["known from before"].startswith(shown_time(first_ms))
    with pytest.raises(NotFoundError, match=r"^Nothing received between .* is in log or archive any more: .* from .* on\.$"):
        await planned(settings, middle_ms - 60_000, middle_ms)
    with pytest.raises(NotFoundError, match=r"^Nothing was received between "):
        await planned(settings, middle_ms + 60_000, middle_ms + 120_000)
