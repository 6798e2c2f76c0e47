"""streams.raw_to_outbound on a real log: an event whose handling fails is tried three times, then kept, and its user answered."""

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
from schemas.codec import decode
from schemas.events.dead_letter import read_dead_letter
from schemas.events.inbound import InboundEvent
from schemas.events.outbound import OutboundEvent
from streams.agents.base import Reply, Turn
from streams.decisions import DEFAULT_FALLBACK, Configured
from streams.raw_to_outbound import RawToOutbound
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


async def test_a_poison_message_takes_no_sibling_along(settings: Settings) -> None:
    """Of three messages in one body the second makes its agent fail: three tries, a dead letter, a fallback; the others are answered."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    asked: list[str] = []

    async def answer(_: Configured, turn: Turn) -> Reply:
        asked.append(turn.text)
        if turn.text == "poison":
            raise RuntimeError("an agent's defect")
        return Reply(text=f"answer to {turn.text}", model="test")

    stage = RawToOutbound(
        table=Rows(),
        producer=producer,
        config=ConfigTables(settings),
        answer=answer,
        clock=SystemClock(),
        default_kind="offline",
        patience=Patience(first_delay_s=0.01),
    )
    texts = [("wamid.1", "first"), ("wamid.2", "poison"), ("wamid.3", "third")]
    (part,) = CHANNELS["whatsapp"].split(text_body(account=ACCOUNT, phone="15550006661", texts=texts, at_s=1), received_at_ms=1)
    record = Record(topic="raw", partition=0, offset=7, key=part.key.encode(), value=part.value, headers=[], timestamp_ms=1)
    try:
        await stage.handle(record, lambda: True)
        await stage.handle(record, lambda: True)
    finally:
        await producer.stop()
    assert asked == ["first", "poison", "poison", "poison", "third"]
    sends = [decode(each.value, OutboundEvent) for each in await records(settings, "outbound-high")]
    said = [msgspec.json.decode(send.message)["text"]["body"] for send in sends]
    assert said == ["answer to first", DEFAULT_FALLBACK, "answer to third"]
    assert [send.step for send in sends] == ["reply", "fallback", "reply"]
    (dead,) = await records(settings, "dead-letters")
    letter = read_dead_letter(list(dead.headers))
    assert (dead.value, letter.cause, letter.attempts, letter.offset) == (part.value, "agent-error", 3, 7)
    assert "an agent's defect" in letter.stack
    decisions = [decode(each.value, InboundEvent).decision for each in await records(settings, "inbound")]
    assert decisions == ["answered", "failed", "answered"]
