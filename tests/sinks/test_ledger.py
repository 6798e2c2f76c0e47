"""The ledger's memory: what it holds, what it forgets, and that it knows which."""

import asyncio

from infra.kafka.record import Record
from sinks.ledger import REMEMBERED_MAX, Ledger, Partition, Since


def record(offset: int = 0, *, key: bytes = b"wa:1:2", topic: str = "outbound-high") -> Record:
    return Record(topic=topic, partition=0, offset=offset, key=key, value=b"", headers=[], timestamp_ms=0)


def test_what_is_forgotten_may_be_older() -> None:
    """A full memory forgets its oldest outcome and says from where on it is whole; later records need no look into history."""
    ledger = Ledger()
    ledger.begin({0: Partition(Since(0, 0))}, set())
    assert ledger.may_be_older(0, caused_at_ms=0) is None
    for number in range(REMEMBERED_MAX + 1):
        ledger.note_outcome(record(number), f"send {number}", offset=number, time_ms=2_000_000 + number)
    assert not ledger.has_outcome(0, "send 0")
    assert ledger.has_outcome(0, "send 1")
    assert ledger.may_be_older(0, caused_at_ms=1_999_000) == Since(1, 2_000_000)
    assert ledger.may_be_older(0, caused_at_ms=2_100_000) is None


def planned(offset: int) -> Record:
    """Return a record of [ledger]."""
    return record(offset, topic="ledger")


def test_while_one_of_a_conversation_is_planned_all_of_it_waits() -> None:
    """From before it is written until all that are written are done; others do not wait."""
    ledger = Ledger()
    ledger.note_planning(record())
    ledger.note_planning(record())
    assert ledger.has_plans(record())
    assert not ledger.has_plans(record(key=b"wa:1:3"))
    ledger.note_planned(record(), offset=7)
    ledger.note_plan_ended(planned(7))
    assert ledger.has_plans(record())
    ledger.note_planned(record(), offset=8)
    assert (ledger.has_plans(record()), ledger.planned) == (True, 1)
    ledger.note_plan_ended(planned(8))
    assert (ledger.has_plans(record()), ledger.planned) == (False, 0)


def test_a_plan_may_be_done_before_its_offset_is_known() -> None:
    """The record is read before its acknowledgement is: then nothing waits for it for ever."""
    ledger = Ledger()
    ledger.note_planning(record())
    ledger.note_plan_ended(planned(7))
    assert ledger.has_plans(record())
    ledger.note_planned(record(), offset=7)
    assert not ledger.has_plans(record())


def test_a_plan_that_nobody_knew_of_stands_for_no_other() -> None:
    """A former owner wrote it after we had looked: with its end our own, behind it, still waits."""
    ledger = Ledger()
    ledger.note_planning(record())
    ledger.note_planned(record(), offset=8)
    ledger.note_plan_ended(planned(6))
    assert ledger.has_plans(record())
    ledger.note_plan_ended(planned(8))
    assert not ledger.has_plans(record())


def test_memory_is_whole_from_later_on_only() -> None:
    """Also where a worker's clock is behind: what was caused after that may be forgotten all the same."""
    ledger = Ledger()
    ledger.begin({0: Partition(Since(5, 3_000_000))}, set())
    for number in range(REMEMBERED_MAX + 1):
        ledger.note_outcome(record(number), f"send {number}", offset=number, time_ms=1_000)
    assert ledger.may_be_older(0, caused_at_ms=2_900_000) == Since(1, 3_000_000)


async def test_a_send_is_in_one_lane_at_a_time() -> None:
    """It may stand in [outbound-*] and in [ledger]: the second lane waits for the first, another send does not."""
    ledger, steps = Ledger(), list[str]()
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with ledger.alone_with("a"):
            inside.set()
            await leave.wait()
            steps.append("first")

    async def second() -> None:
        async with ledger.alone_with("a"):
            steps.append("second")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await inside.wait()
        group.create_task(second())
        async with ledger.alone_with("b"):
            steps.append("other")
        leave.set()
    assert steps == ["other", "first", "second"]
