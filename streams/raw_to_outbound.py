"""[raw] -> [outbound-high] and [inbound], over the table `conversations`: dedupe, enrich, pick an agent, answer.

The thin half of the stage: it reads the row, asks the pure half (`decisions`), calls the agent and writes, in this order, the outputs, the
row, and only then lets the offset go. Ids of outputs come from their cause, so a second run after a crash makes the same ones.
It is hosted by Faust in `streams.app` and knows nothing of it.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from infra.clock import Clock
from infra.config_tables import ConfigTables
from infra.fault_points import point, without
from infra.kafka.producer import Producer, settle
from infra.kafka.record import Record
from infra.metrics import DEAD_LETTERS, EVENT_SECONDS, EVENTS
from infra.retries import Patience, with_retries
from schemas.channels import CHANNELS
from schemas.channels.base import Channel, Item
from schemas.codec import DecodeError, cloud_event_headers, decode, encode
from schemas.events.dead_letter import DeadLetter, dead_letter_headers
from schemas.events.inbound import InboundEvent, RecordPosition
from schemas.events.outbound import OutboundEvent
from schemas.events.webhook_part import WebhookPart
from schemas.ids import event_id, send_id
from schemas.topics import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from schemas.topics import INBOUND, OUTBOUND
from streams.agents.base import AgentError, Reply
from streams.agents.base import Turn as AgentTurn
from streams.decisions import (
    ANSWER_STEP,
    DEFAULT_FALLBACK,
    FALLBACK_STEP,
    REPLY_PRIORITY,
    Action,
    Configured,
    configured,
    decide,
    turns_of,
)
from streams.rows import ConversationRow, Turn, advance, is_known

log = structlog.get_logger()

STAGE = "streams"


class Table(Protocol):
    """Where rows live."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a row."""

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a row durably."""


class LostPartitionError(Exception):
    """The partition belongs to another worker by now: nothing more may be written for this event."""


Answer = Callable[[Configured, AgentTurn], Awaitable[Reply]]


@dataclass
class _Work:
    """One event under way: what came of its items so far."""

    record: Record
    part: WebhookPart
    channel: Channel
    whose: Configured
    row: ConversationRow
    started_ms: int
    ids: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    lost: DeadLetter | None = None


class RawToOutbound:
    """The stage. `default_kind` is the kind of the installation's own agent, `answer` asks the agent of a conversation."""

    def __init__(
        self, *, table: Table, producer: Producer, config: ConfigTables, answer: Answer, clock: Clock, default_kind: str, patience: Patience
    ) -> None:
        self._table = table
        self._producer = producer
        self._config = config
        self._answer = answer
        self._clock = clock
        self._default_kind = default_kind
        self._patience = patience

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        """Deal with one record of [raw]; returns when all it led to is acknowledged.

        `owned` tells whether this worker still owns the record's partition; it is asked before every write. Raises LostPartitionError when
        it does not, ProduceError when the log does not take what must be written.
        """
        started_ms = self._clock.now_ms()
        row = self._row(record)
        if record.offset <= row.done:
            EVENTS.labels(STAGE, "repeated").inc()
            return
        try:
            part = decode(record.value, WebhookPart)
            channel = CHANNELS[part.channel]
        except (DecodeError, KeyError) as error:
            await self._dead_letter(record, owned, self._letter(record, cause="undecodable", error=error, attempts=1))
            await self._write_row(record, owned, row, ids=[], turns=[])
            return
        point("streams.decoded")
        whose = configured(self._config.account_by_phone_number_id(part.account), self._config.agents, default_kind=self._default_kind)
        work = _Work(record=record, part=part, channel=channel, whose=whose, row=row, started_ms=started_ms)
        for item in channel.parse(part):
            await self._item(work, item, owned)
        if work.lost is not None:
            await self._dead_letter(record, owned, work.lost)
        await self._write_row(record, owned, row, ids=work.ids, turns=work.turns)
        EVENT_SECONDS.labels(STAGE).observe((self._clock.now_ms() - started_ms) / 1000)

    def _row(self, record: Record) -> ConversationRow:
        value = self._table.get(record.partition, record.key)
        return decode(value, ConversationRow) if value is not None else ConversationRow()

    async def _item(self, work: _Work, item: Item, owned: Callable[[], bool]) -> None:
        decision = decide(item, known=item.id in work.ids or self._known(work, item))
        EVENTS.labels(STAGE, decision.action.value).inc()
        if decision.action is Action.DUPLICATE:
            return
        work.ids.append(item.id)
        outcome, reason, send, text = decision.action.value, decision.reason, None, ""
        if decision.action is Action.ANSWER:
            point("streams.before_agent")
            text, step, failure = await self._reply(work, item)
            point("streams.answered")
            send = self._outbound(work, item, text=text, step=step)
            if failure is not None:
                outcome, reason, work.lost = "failed", failure.cause, failure
        elif decision.action is Action.DEAD_LETTER:
            outcome = "failed"
            work.lost = self._letter(work.record, cause=decision.reason, error=ValueError("no conversation it belongs to"), attempts=1)
        work.turns += turns_of(item, text)
        point("streams.before_outputs")
        self._check(owned)
        outputs = self._outputs(work, item, outcome=outcome, reason=reason, send=send)
        if not without("outputs"):
            await settle(outputs)
        point("streams.outputs_acknowledged")

    def _known(self, work: _Work, item: Item) -> bool:
        record = work.record
        return not without("dedupe") and is_known(
            work.row,
            record.key,
            item.id,
            now_ms=work.part.received_at,
            sealed_row=lambda key: self._table.get(record.partition, key),
        )

    async def _reply(self, work: _Work, item: Item) -> tuple[str, str, DeadLetter | None]:
        """Return the text, the step it belongs to, and, where the agent failed, the dead letter that says so."""
        agent = work.whose.agent
        history = tuple((turn.role, turn.text) for turn in (*work.row.turns, *work.turns))
        turn = AgentTurn(conversation=work.part.conversation, instructions=agent.instructions, history=history, text=item.text)
        try:
            reply, _ = await with_retries(
                lambda: self._answer(work.whose, turn), patience=self._patience, what=f"agent {agent.id}", final=(AgentError,)
            )
        except AgentError as error:
            letter = self._letter(work.record, cause=error.cause, error=error, attempts=1)
        except Exception as error:  # noqa: BLE001  # whatever an agent raises: the user is answered and an operator is told
            letter = self._letter(work.record, cause="agent-error", error=error, attempts=self._patience.tries)
        else:
            return reply.text, ANSWER_STEP, None
        log.warning("agent failed, fallback sent", agent=agent.id, cause=letter.cause, error=letter.error)
        return agent.fallback or DEFAULT_FALLBACK, FALLBACK_STEP, letter

    def _outbound(self, work: _Work, item: Item, *, text: str, step: str) -> OutboundEvent:
        part, record = work.part, work.record
        cause = event_id(part.conversation, item.id)
        return OutboundEvent(
            id=send_id(conversation=part.conversation, cause=cause, step=step),
            conversation=part.conversation,
            tenant=work.whose.tenant,
            channel=part.channel,
            account=part.account,
            to=item.reply_to,
            to_kind=item.reply_to_kind,
            priority=REPLY_PRIORITY,
            message=msgspec.Raw(msgspec.json.encode({"type": "text", "text": {"body": text}})),
            cause=cause,
            step=step,
            # Clocks of two machines differ: an answer is never older than its question.
            created_at=max(self._clock.now_ms(), part.received_at),
            agent=work.whose.agent.id,
            raw=RecordPosition(topic=record.topic, partition=record.partition, offset=record.offset),
            caused_at=record.timestamp_ms,
        )

    def _outputs(self, work: _Work, item: Item, *, outcome: str, reason: str, send: OutboundEvent | None) -> list[asyncio.Future[int]]:
        part, record = work.part, work.record
        now_ms = max(self._clock.now_ms(), part.received_at)
        inbound = InboundEvent(
            id=event_id(part.conversation, item.id),
            conversation=part.conversation,
            tenant=work.whose.tenant,
            channel=part.channel,
            account=part.account,
            direction=item.direction,
            kind=item.kind,
            type=item.type,
            platform_id=item.id,
            at=item.at_ms,
            received_at=part.received_at,
            decided_at=now_ms,
            decision=outcome,
            reason=reason,
            text=item.text,
            person=item.person,
            agent=work.whose.agent.id if send is not None else "",
            replies=[send.id] if send is not None else [],
            waited_ms=max(0, work.started_ms - part.received_at),
            worked_ms=max(0, now_ms - work.started_ms),
            raw=RecordPosition(topic=record.topic, partition=record.partition, offset=record.offset),
            payload=item.payload,
        )
        outputs = [self._produce(INBOUND.name, record.key, inbound, now_ms)]
        if send is not None:
            outputs.append(self._produce(OUTBOUND[send.priority].name, record.key, send, now_ms))
        return outputs

    def _produce(self, topic: str, key: bytes, event: InboundEvent | OutboundEvent, now_ms: int) -> asyncio.Future[int]:
        event_type = "ottla.inbound" if isinstance(event, InboundEvent) else "ottla.outbound"
        headers = cloud_event_headers(event_id=event.id, event_type=event_type, source=STAGE, time_ms=now_ms)
        return self._producer.produce(topic, key=key, value=encode(event), headers=headers)

    async def _write_row(
        self, record: Record, owned: Callable[[], bool], row: ConversationRow, *, ids: list[str], turns: list[Turn]
    ) -> None:
        changes = advance(row, record.key, done=record.offset, item_ids=ids, turns=turns, now_ms=self._clock.now_ms())
        for key, sealed in changes.seal:
            self._check(owned)
            await self._table.put(record.partition, key, encode(sealed))
        self._check(owned)
        await self._table.put(record.partition, record.key, encode(changes.row))
        for key in changes.drop:
            await self._table.put(record.partition, key, None)

    def _letter(self, record: Record, *, cause: str, error: Exception, attempts: int) -> DeadLetter:
        return DeadLetter(
            stage=STAGE,
            cause=cause,
            error=f"{type(error).__name__}: {error}",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            attempts=attempts,
            at=self._clock.now_ms(),
            stack="".join(traceback.format_exception(error)),
        )

    async def _dead_letter(self, record: Record, owned: Callable[[], bool], letter: DeadLetter) -> None:
        """Write a dead letter and wait for it; if it cannot be written the stage stops rather than lose the event."""
        self._check(owned)
        point("streams.before_dead_letter")
        await self._producer.send(DEAD_LETTERS_TOPIC.name, key=record.key, value=record.value, headers=dead_letter_headers(letter))
        point("streams.dead_letter_written")
        DEAD_LETTERS.labels(STAGE, letter.cause).inc()

    @staticmethod
    def _check(owned: Callable[[], bool]) -> None:
        if not owned():
            raise LostPartitionError
