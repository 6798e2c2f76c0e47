"""streams.raw_to_outbound on a real log: an event whose handling fails is tried three times, then kept, and its user answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from infra.simulator.webhooks import text_body
from schemas.channels import CHANNELS
from schemas.channels.base import Item
from schemas.codec import decode
from schemas.events.dead_letter import read_dead_letter, redrive_headers
from schemas.events.inbound import InboundEvent
from schemas.events.outbound import OutboundEvent
from schemas.ids import event_id
from streams.agents.base import Reply, Turn
from streams.decisions import DEFAULT_FALLBACK, Configured, turns_of
from streams.raw_to_outbound import RawToOutbound
from streams.rows import ConversationRow
from streams.rows import Turn as Said
from tests.driver import ACCOUNT
from tests.reading import records

pytestmark = pytest.mark.servers


class Rows:
    """A table in memory."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, _: int, key: bytes) -> bytes | None:
        return self.rows.get(key)

    async def put(self, _: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            del self.rows[key]
        else:
            self.rows[key] = value


class Agent:
    """Answers what is said, and fails at the word poison until it is cured."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cured = False

    async def answer(self, _: Configured, turn: Turn) -> Reply:
        self.asked.append(turn.text)
        if turn.text == "poison" and not self.cured:
            raise RuntimeError("an agent's defect")
        return Reply(text=f"answer to {turn.text}", model="test")


@asynccontextmanager
async def running(settings: Settings, agent: Agent, rows: Rows) -> AsyncIterator[RawToOutbound]:
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    yield RawToOutbound(
        table=rows,
        producer=producer,
        config=ConfigTables(settings),
        answer=agent.answer,
        clock=SystemClock(),
        default_kind="offline",
        patience=Patience(first_delay_s=0.01),
    )
    await producer.stop()


def three_messages() -> Record:
    texts = [("wamid.1", "first"), ("wamid.2", "poison"), ("wamid.3", "third")]
    (part,) = CHANNELS["whatsapp"].split(text_body(account=ACCOUNT, phone="15550006661", texts=texts, at_s=1), received_at_ms=1)
    return Record(topic="raw", partition=0, offset=7, key=part.key.encode(), value=part.value, headers=[], timestamp_ms=1)


async def test_a_poison_message_takes_no_sibling_along(settings: Settings) -> None:
    """Of three messages in one body the second makes its agent fail: three tries, a dead letter, a fallback; the others are answered."""
    agent, record = Agent(), three_messages()
    async with running(settings, agent, Rows()) as stage:
        await stage.handle(record, lambda: True)
        await stage.handle(record, lambda: True)
    assert agent.asked == ["first", "poison", "poison", "poison", "third"]
    sends = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")]
    said = [msgspec.json.decode(send.message)["text"]["body"] for send in sends]
    assert said == ["answer to first", DEFAULT_FALLBACK, "answer to third"]
    assert [send.step for send in sends] == ["reply", "fallback", "reply"]
    assert {send.lookup for send in sends} == {False}
    (dead,) = await records(settings, "dead-letters")
    letter = read_dead_letter(list(dead.headers))
    assert (dead.value, letter.cause, letter.attempts, letter.offset) == (record.value, "agent-error", 3, 7)
    assert (letter.tenant, letter.items) == ("default", event_id(record.key.decode(), "wamid.2"))
    assert "an agent's defect" in letter.stack
    decisions = [decode(each.value, InboundEvent).decision for each in await records(settings, "inbound")]
    assert decisions == ["answered", "failed", "answered"]


async def test_a_redrive_handles_again_what_failed(settings: Settings) -> None:
    """Too early it fails again, says nothing and leaves the row alone; cured, this item and no other is answered, as a new send."""
    agent, rows, record = Agent(), Rows(), three_messages()
    items = event_id(record.key.decode(), "wamid.2")
    async with running(settings, agent, rows) as stage:
        await stage.handle(record, lambda: True)
        before = decode(rows.rows[record.key], ConversationRow)
        agent.asked.clear()
        await stage.handle(replace(record, offset=8, headers=redrive_headers("1" * 32, items, time_ms=1)), lambda: True)
        failed = decode(rows.rows[record.key], ConversationRow)
        agent.cured = True
        await stage.handle(replace(record, offset=9, headers=redrive_headers("2" * 32, items, time_ms=1)), lambda: True)
        cured = decode(rows.rows[record.key], ConversationRow)
        await stage.handle(replace(record, offset=10), lambda: True)
    assert agent.asked == ["poison"] * 4
    assert (failed.done, failed.turns, failed.ids) == (8, before.turns, before.ids)
    assert (cured.done, cured.turns[len(before.turns) :], cured.ids) == (
        9,
        [Said("user", "poison"), Said("assistant", "answer to poison")],
        before.ids,
    )
    sends = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")]
    assert [(send.step, send.lookup) for send in sends[3:]] == [("redrive", True)]
    assert sends[3].id != sends[1].id
    first, second = await records(settings, "dead-letters")
    letter = read_dead_letter(list(second.headers))
    assert (letter.redrive_of, letter.offset, letter.items) == ("1" * 32, 8, items)
    assert dict(first.headers)["ce_id"] != dict(second.headers)["ce_id"]
    decisions = [decode(each.value, InboundEvent) for each in await records(settings, "inbound")][3:]
    assert [(event.decision, event.id) for event in decisions] == [("failed", items), ("answered", items)]


async def test_a_redrive_that_names_no_items_means_all(settings: Settings) -> None:
    """Everything is handled again, known or not, and whatever was said gets the id it had: the sender passes over it."""
    agent, record = Agent(), three_messages()
    async with running(settings, agent, Rows()) as stage:
        await stage.handle(record, lambda: True)
        agent.cured = True
        await stage.handle(replace(record, offset=8, headers=redrive_headers("1" * 32, "", time_ms=1)), lambda: True)
    assert agent.asked[-3:] == ["first", "poison", "third"]
    sends = [decode(each.value, OutboundEvent).id for each in await records(settings, "outbound-high")]
    assert sends[3:] == sends[:3]


async def test_a_defect_of_ours_stops_nobody_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises where nothing should: the record is kept, its siblings are answered, and a redrive means the item that failed."""
    agent, rows, record = Agent(), Rows(), three_messages()
    agent.cured = True

    def defect(item: Item, answer: str) -> list[Said]:
        if item.text == "poison":
            raise ZeroDivisionError("a defect")
        return turns_of(item, answer)

    monkeypatch.setattr("streams.raw_to_outbound.turns_of", defect)
    async with running(settings, agent, rows) as stage:
        await stage.handle(record, lambda: True)
        assert decode(rows.rows[record.key], ConversationRow).done == 7
        (dead,) = await records(settings, "dead-letters")
        letter = read_dead_letter(list(dead.headers))
        items = event_id(record.key.decode(), "wamid.2")
        assert (letter.cause, letter.items, dead.value) == ("ZeroDivisionError", items, record.value)
        monkeypatch.undo()
        await stage.handle(replace(record, offset=8, headers=redrive_headers("1" * 32, items, time_ms=1)), lambda: True)
    sends = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")]
    said = [msgspec.json.decode(send.message)["text"]["body"] for send in sends]
    assert said == [f"answer to {text}" for text in ("first", "third", "poison")]
