"""The sender without servers: what a former owner claimed, or a status told of, is never sent as if nothing had been."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.clock import SystemClock
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.platform import SimulatedPlatform
from schemas.codec import decode, encode
from schemas.events.inbound import RecordPosition
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.events.sent import SentEvent
from sinks.base import Context
from sinks.ledger import Partition, Since, told_of
from sinks.outbound_to_platform import OutboundToPlatform
from tests.history_events import NOON_MS, Talk

TALK = Talk()


class Log:
    """What the sender writes, and the claims it makes: as a producer and as whoever hosts the sink."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.written: list[Record] = []
        self.claimed: list[Record] = []

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Any, partition: int = 3) -> int:
        self.written.append(Record(topic, partition, len(self.written), key, value, headers, NOON_MS))
        return len(self.written) - 1

    async def claim(self, record: Record) -> float:
        self.claimed.append(record)
        raise AssertionError("nothing is to be sent")

    def begins(self, _: Record) -> None:
        raise AssertionError("nothing is to be sent")

    def unclaim(self, _: Record) -> None:
        raise AssertionError("nothing is to be sent")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def sender(tmp_path: Path, log: Log) -> OutboundToPlatform:
    """Return a sender that took partition 3, in which a plan of the conversation is to come again; its platform must not be asked."""
    settings = Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", unknown_wait=0.0, _env_file=None)
    config = SimpleNamespace(account_by_phone_number_id=lambda _: None)
    sink = OutboundToPlatform(Context(settings=settings, producer=cast("Any", log), config=cast("Any", config), clock=SystemClock()))
    sink.hosted(cast("Any", log))
    return sink


def taken(sender: OutboundToPlatform, *, claimed: Record | None = None, told: Record | None = None, has_plans: bool = True) -> None:
    """Let it have learnt of a claim or of a status when it took the partition."""
    partition = Partition(Since(0, 0))
    if has_plans:
        partition.note_planned(TALK.key.encode(), 0)
    if told is not None:
        partition.note_platform_id(told_of(told.key, decode(told.value, OutboundEvent).id), "wamid.told")
    claims = {(claimed.topic, claimed.partition, claimed.offset)} if claimed is not None else set()
    sender._ledger.begin({3: partition}, claims)


@pytest.mark.parametrize("how", ["claimed", "told"])
async def test_what_may_have_left_is_planned_as_unknown(sender: OutboundToPlatform, log: Log, how: str) -> None:
    """Behind plans that come again it waits in [ledger] as what it is, and ends there without being sent once more."""
    record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
    taken(sender, claimed=record if how == "claimed" else None, told=record if how == "told" else None)
    await sender.handle([record])
    (plan,) = log.written
    planned = decode(plan.value, PlannedEvent)
    assert (plan.topic, planned.state, planned.attempts) == ("ledger", "unknown", 1)
    await sender.handle([plan])
    outcome = decode(log.written[-1].value, SentEvent)
    assert (log.written[-1].topic, outcome.outcome, log.claimed) == ("sent", "accepted" if how == "told" else "unknown", [])


async def test_what_has_certainly_not_left_is_planned_as_such(sender: OutboundToPlatform, log: Log) -> None:
    """Behind the plans of its conversation a new send waits for its turn, and is sent then."""
    taken(sender)
    await sender.handle([TALK.outbound("cause", "hello", at_ms=NOON_MS)])
    (plan,) = log.written
    assert (plan.topic, decode(plan.value, PlannedEvent).state) == ("ledger", "planned")


@pytest.mark.parametrize("how", ["claimed", "told"])
async def test_what_may_have_left_is_not_sent_again(sender: OutboundToPlatform, log: Log, how: str) -> None:
    """Without plans it is settled where it stands: accepted if a status told of it, else unknown."""
    record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
    taken(sender, claimed=record if how == "claimed" else None, told=record if how == "told" else None, has_plans=False)
    await sender.handle([record])
    (sent,) = log.written
    assert (sent.topic, decode(sent.value, SentEvent).outcome) == ("sent", "accepted" if how == "told" else "unknown")


@pytest.mark.parametrize("how", ["its record is claimed", "a plan was read", "a plan is written"])
async def test_what_a_paused_worker_plans_late_may_have_left(sender: OutboundToPlatform, log: Log, how: str) -> None:
    """It went on after a pause, and wrote to [ledger] what another worker had claimed and sent meanwhile: that plan says nothing of it."""
    record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
    outbound = decode(record.value, OutboundEvent)
    source = RecordPosition(topic=record.topic, partition=record.partition, offset=record.offset)
    late = PlannedEvent(send=outbound, state="planned", at=NOON_MS + 13_000, since=NOON_MS, source=source)
    plan = Record("ledger", 3, 0, record.key, encode(late), [], NOON_MS + 13_000)
    taken(sender, claimed=record if how != "a plan was read" else None)
    if how == "a plan was read":
        sender._ledger.note_left(record, outbound.id)
    if how == "a plan is written":
        await sender.handle([record])
        sender._ledger._claimed.clear()
    await sender.handle([plan])
    outcome = decode(log.written[-1].value, SentEvent)
    assert (log.written[-1].topic, outcome.outcome, log.claimed) == ("sent", "unknown", [])


async def test_a_plan_that_comes_again_is_looked_up_in_history(
    sender: OutboundToPlatform, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was planned once more long after it was sent: what counts is when its own record was written."""
    asked: list[str] = []

    async def has_outcome(send: str, **_: object) -> bool:
        asked.append(send)
        return True

    monkeypatch.setattr(sender._older, "has_outcome", has_outcome)
    taken(sender)
    sender._ledger.partition(3).since = Since(10_000, NOON_MS + 3_600_000)
    record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
    await sender.handle([record])
    (plan,) = log.written
    late = replace(plan, timestamp_ms=NOON_MS + 86_400_000)
    await sender.handle([late])
    assert (asked, len(log.written)) == ([decode(record.value, OutboundEvent).id], 1)


class Granting(Log):
    """Grants every claim, and remembers those that were given back."""

    def __init__(self) -> None:
        super().__init__()
        self.unclaimed: list[Record] = []

    async def claim(self, record: Record) -> float:
        self.claimed.append(record)
        return math.inf

    def begins(self, _: Record) -> None:
        pass

    def unclaim(self, record: Record) -> None:
        self.unclaimed.append(record)


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform() as platform:
        yield platform


@asynccontextmanager
async def sending(platform: SimulatedPlatform, log: Log, home: Path, **changed: Any) -> AsyncIterator[OutboundToPlatform]:
    """Run a sender that may ask the platform."""
    addresses = {"kafka": "127.0.0.1:1", "cassandra": "127.0.0.1:1", "whatsapp_api": platform.api_url}
    settings = Settings(home=home, whatsapp_token="t", _env_file=None, **{**addresses, **changed})
    config = SimpleNamespace(account_by_phone_number_id=lambda _: None)
    context = Context(settings=settings, producer=cast("Any", log), config=cast("Any", config), clock=SystemClock())
    sink = OutboundToPlatform(context, patience=Patience(first_delay_s=0.01))
    sink.hosted(cast("Any", log))
    await sink.start()
    yield sink
    await sink.stop()


async def test_what_a_status_tells_of_is_not_tried_again(platform: SimulatedPlatform, tmp_path: Path) -> None:
    """The platform has taken it and answers with an error of its own: its status, which comes first, settles it."""
    log = Granting()
    platform.faults.turn("error", Fault(probability=1.0, accepted=True))
    async with sending(platform, log, tmp_path) as sink:
        taken(sink, has_plans=False)
        record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
        send = decode(record.value, OutboundEvent).id
        platform.books.watchers.append(lambda _: sink._ledger.note_accepted(record, send, "wamid.told"))
        await sink.handle([record])
    outcome = decode(log.written[-1].value, SentEvent)
    assert (outcome.outcome, outcome.settled, outcome.platform_id) == ("accepted", True, "wamid.told")
    assert len(platform.books.accepted()) == 1


async def test_another_accounts_status_tells_nothing(platform: SimulatedPlatform, tmp_path: Path) -> None:
    """Whoever signs for one account may put any send's id into a status: it is neither settled nor kept back by that."""
    log = Granting()
    async with sending(platform, log, tmp_path) as sink:
        taken(sink, has_plans=False)
        record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
        send = decode(record.value, OutboundEvent).id
        forged = TALK.status("wamid.forged", "delivered", at_ms=NOON_MS, send=send)
        for key in ("wa:666:16505550001", "wa:-:-", ""):
            assert sink.take_at_once(replace(forged, key=key.encode(), partition=record.partition))
        await sink.handle([record])
    outcome = decode(log.written[-1].value, SentEvent)
    assert (outcome.outcome, outcome.settled) == ("accepted", False)
    assert [each.platform_id for each in platform.books.accepted()] == [outcome.platform_id]


@pytest.mark.parametrize(("fault", "ends"), [("error", "accepted"), ("reject", "rejected")])
async def test_sent_once_more_it_stays_claimed(platform: SimulatedPlatform, tmp_path: Path, fault: str, ends: str) -> None:
    """That the second attempt certainly did not arrive says nothing of the first: after a crash right then it may have left still."""
    log = Granting()
    platform.faults.turn(fault, Fault(count=1))
    async with sending(platform, log, tmp_path, unknown="resend", unknown_wait=0.0) as sink:
        record = TALK.outbound("cause", "hello", at_ms=NOON_MS)
        taken(sink, claimed=record, has_plans=False)
        await sink.handle([record])
    outcome = decode(log.written[-1].value, SentEvent)
    assert (outcome.outcome, outcome.resent, log.unclaimed) == (ends, True, [])
