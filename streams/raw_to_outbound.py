"""[raw] -> [outbound-high] and [inbound], over the table `conversations`: dedupe, enrich, pick an agent, answer.

The thin half of the stage: it reads the row, asks the pure half (`decisions`), calls the agent and writes, in this order, the outputs, the
row, and only then lets the offset go. Ids of outputs come from their cause, so a second run after a crash makes the same ones.
An item whose conversation is another key's (`identity`) goes there through [raw] instead: deduplicated here first, and there once more.
It is hosted by Faust in `streams.app` and knows nothing of it.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import msgspec
import structlog

from infra.clock import Clock
from infra.config_tables import ConfigTables
from infra.fault_points import point, without
from infra.kafka.commits import LostPartitionError
from infra.kafka.dead_letters import write_dead_letter
from infra.kafka.producer import ProduceError, RecordWriter, settle
from infra.kafka.record import Record
from infra.metrics import EVENT_SECONDS, EVENTS
from infra.retries import Patience, with_retries
from schemas.channels import CHANNELS
from schemas.channels.base import Channel, Item
from schemas.codec import DecodeError, cloud_event_headers, decode, encode
from schemas.events.canary import is_canary
from schemas.events.dead_letter import ITEMS_MAX, DeadLetter, Redrive, read_redrive
from schemas.events.inbound import InboundEvent, RecordPosition
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.routed_part import IN_RAW, Route, RoutedPart
from schemas.events.webhook_part import Change, WebhookPart
from schemas.ids import event_id, send_id
from schemas.topics import INBOUND, OUTBOUND, RAW
from streams.agents.base import AgentError, Reply
from streams.agents.base import Turn as AgentTurn
from streams.decisions import (
    ANSWER_STEP,
    DEFAULT_FALLBACK,
    FALLBACK_STEP,
    REDRIVE_STEP,
    REPLY_PRIORITY,
    Action,
    Configured,
    configured,
    decide,
    turns_of,
)
from streams.identity import ANEW, NEVER, Name, alone, answer, carried_names, learn, link, place, seen
from streams.rows import TURN_LENGTH_MAX, TURNS_MAX, ConversationRow, Turn, advance, is_known

log = structlog.get_logger()

STAGE = "streams"

# An item that was asked about comes under its own key twice; no platform's id begins like this.
_BACK = "back "


class Table(Protocol):
    """Where rows live."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a row."""

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a row durably."""


Answer = Callable[[Configured, AgentTurn], Awaitable[Reply]]


@dataclass
class _Work:
    """One event under way: what came of its items so far. `key` is the record's own, as text; `origin` is what ingress wrote."""

    record: Record
    part: WebhookPart
    channel: Channel
    whose: Configured
    row: ConversationRow
    started_ms: int
    key: str
    origin: RecordPosition
    name: Name
    redrive: Redrive | None
    seen: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    lost: DeadLetter | None = None
    lost_items: list[str] = field(default_factory=list)


class RawToOutbound:
    """The stage. `default_kind` is the kind of the installation's own agent, `answer` asks the agent of a conversation."""

    def __init__(
        self,
        *,
        table: Table,
        producer: RecordWriter,
        config: ConfigTables,
        answer: Answer,
        clock: Clock,
        default_kind: str,
        patience: Patience,
    ) -> None:
        self._table = table
        self._producer = producer
        self._config = config
        self._answer = answer
        self._clock = clock
        self._default_kind = default_kind
        self._patience = patience
        self._decided = {action: EVENTS.labels(STAGE, action.value) for action in Action}
        self._seconds = EVENT_SECONDS.labels(STAGE)

    async def handle(self, record: Record, owned: Callable[[], bool]) -> None:
        """Deal with one record of [raw]; returns when all it led to is acknowledged.

        `owned` tells whether this worker still owns the record's partition; it is asked before every write. Of a redriven record what
        failed before is handled again, known or not. Raises LostPartitionError when the partition is not owned any more, ProduceError when
        the log does not take what must be written. A canary means nothing here; in a live worker it never comes this far.
        """
        if is_canary(record.key):
            return
        started_ms = self._clock.now_ms()
        row = self._row(record)
        if record.offset <= row.done:
            EVENTS.labels(STAGE, "repeated").inc()
            return
        try:
            part = _part_of(record)
            channel = CHANNELS[part.channel]
        except (DecodeError, KeyError) as error:
            letter = self._letter(record, cause="undecodable", error=error, attempts=1, tenant=self._config.tenant_of(record.key))
            await self._dead_letter(record, owned, letter)
            await self._write_row(record, owned, row, ids=[], turns=[], name=row.name)
            return
        point("streams.decoded")
        whose = configured(self._config.account_by_phone_number_id(part.account), self._config.agents, default_kind=self._default_kind)
        routed = part if isinstance(part, RoutedPart) else None
        work = _Work(
            record=record,
            part=part,
            channel=channel,
            whose=whose,
            row=row,
            started_ms=started_ms,
            key=record.key.decode() if routed else part.conversation,
            origin=routed.origin if routed else RecordPosition(topic=record.topic, partition=record.partition, offset=record.offset),
            name=row.name,
            redrive=read_redrive(record.headers),
        )
        if routed is not None and routed.route.step == "link":
            await self._guarded(work, "", self._link(work, routed.route, owned))
        for item in channel.parse(part):
            handling = self._item(work, item, owned) if routed is None else self._routed(work, item, routed.route, owned)
            await self._guarded(work, _id_of(work, item), handling)
        if work.lost is not None:
            items = ",".join(work.lost_items) if len(work.lost_items) <= ITEMS_MAX else ""
            await self._dead_letter(record, owned, msgspec.structs.replace(work.lost, items=items))
        await self._write_row(record, owned, row, ids=work.ids, turns=work.turns, name=work.name)
        self._seconds.observe((self._clock.now_ms() - started_ms) / 1000)

    async def _guarded(self, work: _Work, lost_id: str, handling: Awaitable[None]) -> None:
        """Let an item, or a word about a key, be handled; a defect of ours must not stop the conversations of everybody else."""
        try:
            await handling
        except (ProduceError, LostPartitionError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it becomes a dead letter
            work.lost = self._letter(work.record, cause=type(error).__name__, error=error, attempts=1, tenant=work.whose.tenant)
            work.lost_items += [lost_id] if lost_id else []

    def _row(self, record: Record) -> ConversationRow:
        value = self._table.get(record.partition, record.key)
        return decode(value, ConversationRow) if value is not None else ConversationRow(name=Name(since=NEVER))

    async def _item(self, work: _Work, item: Item, owned: Callable[[], bool]) -> None:
        """Deal with an item of a webhook: deduplicated under its own key, then placed."""
        if self._is_due(work, item):
            work.name = seen(work.name, work.part.received_at)
            await self._place(work, item, owned)

    async def _routed(self, work: _Work, item: Item, route: Route, owned: Callable[[], bool]) -> None:
        """Deal with an item that was keyed again; what came twice on the way is passed over where it arrives."""
        own = work.part.conversation
        if route.step == "ask":
            name, canonical = answer(work.name, work.key, own, route)
            await self._learn(work, name, owned)
            await self._send_on(work, own, Route(step="answer", canonical=canonical, other=work.key), alone(work.part, item), owned)
        elif route.step == "answer" and self._is_due(work, item, mark=_BACK):
            await self._learn(work, learn(work.name, route, item_id=item.id), owned)
            await self._place(work, item, owned, is_back=True)
        elif route.step == "deliver" and self._is_due(work, item):
            await self._decide(work, item, owned)

    async def _link(self, work: _Work, route: Route, owned: Callable[[], bool]) -> None:
        name, back = link(work.name, work.key, route)
        await self._learn(work, name, owned)
        if back is not None:
            await self._send_on(work, *back, [], owned)

    async def _place(self, work: _Work, item: Item, owned: Callable[[], bool], *, is_back: bool = False) -> None:
        """Handle an item here if this is its conversation, else send it to where it belongs or where that is known."""
        carried = carried_names(item, work.part, prefix=work.channel.prefix)
        placed = place(work.name, work.key, carried, item_id=item.id, is_back=is_back)
        await self._learn(work, placed.name, owned)
        for key, route in placed.links:
            await self._send_on(work, key, route, [], owned)
        if placed.ask:
            await self._send_on(work, placed.ask, Route(step="ask", since=placed.name.since), alone(work.part, item), owned)
        elif placed.conversation == work.key:
            await self._decide(work, item, owned)
        else:
            await self._send_on(work, placed.conversation, Route(step="deliver"), alone(work.part, item), owned)

    async def _learn(self, work: _Work, name: Name, owned: Callable[[], bool]) -> None:
        """Take over what is now known of the record's key, and tell history where it leads if that is new."""
        is_new = name.canonical not in (work.name.canonical, work.key, "")
        work.name = name
        if not is_new:
            return
        event = LinkedEvent(alias=work.key, conversation=name.canonical, at=work.part.received_at, is_joined=name.since != ANEW)
        headers = cloud_event_headers(
            event_id=event_id("linked", work.key, name.canonical), event_type="ottla.linked", source=STAGE, time_ms=event.at
        )
        self._check(owned)
        await self._producer.send(INBOUND.name, key=work.record.key, value=encode(event), headers=headers)

    async def _send_on(self, work: _Work, key: str, route: Route, changes: list[Change], owned: Callable[[], bool]) -> None:
        """Key an item, or a word about a key, again."""
        part = work.part
        routed = RoutedPart(
            channel=part.channel,
            account=part.account,
            conversation=part.conversation,
            received_at=part.received_at,
            changes=changes,
            route=route,
            origin=work.origin,
        )
        value = encode(routed)
        headers = cloud_event_headers(
            event_id=event_id("routed", key, value.decode("utf-8", "replace")),
            event_type="ottla.routed",
            source=STAGE,
            time_ms=part.received_at,
        )
        EVENTS.labels(STAGE, route.step).inc()
        self._check(owned)
        await self._producer.send(RAW.name, key=key.encode(), value=value, headers=headers)

    async def _decide(self, work: _Work, item: Item, owned: Callable[[], bool]) -> None:
        """Decide about an item in its conversation, and write what that leads to."""
        # The earlier of two clocks: the ingress's may be ahead, and a record that was keyed again or redriven is younger than its content.
        received_at = min(work.part.received_at, work.record.timestamp_ms)
        decision = decide(item, received_at=received_at, reply_window_ms=work.channel.reply_window_ms)
        self._decided[decision.action].inc()
        cause = _id_of(work, item)
        outcome, reason, send, text, failure = decision.action.value, decision.reason, None, "", None
        if decision.action is Action.ANSWER:
            point("streams.before_agent")
            send_as = send_id(conversation=work.key, cause=cause, step=REDRIVE_STEP if _is_redriven(work) else ANSWER_STEP)
            text, step, failure = await self._reply(work, item, send=send_as)
            point("streams.answered")
            # Of a redriven item the user has been told already that nobody could answer.
            if failure is None or not _is_redriven(work):
                send = self._outbound(work, item, send=send_as, cause=cause, text=text, step=step)
        elif decision.action is Action.DEAD_LETTER:
            error = ValueError("no conversation it belongs to")
            failure = self._letter(work.record, cause=decision.reason, error=error, attempts=1, tenant=work.whose.tenant)
        if failure is not None:
            outcome, reason, work.lost = "failed", failure.cause, failure
            work.lost_items.append(cause)
        if failure is None or not _is_redriven(work):
            work.turns += turns_of(item, text)
        point("streams.before_outputs")
        self._check(owned)
        outputs = self._outputs(work, item, cause=cause, outcome=outcome, reason=reason, send=send)
        if not without("outputs"):
            await settle(outputs)
        point("streams.outputs_acknowledged")

    def _is_due(self, work: _Work, item: Item, *, mark: str = "") -> bool:
        """Tell whether an item is to be handled, and remember it: it did not come before under this key, or it failed and is redriven."""
        item_id = mark + item.id
        record, now_ms = work.record, work.part.received_at
        read = partial(self._table.get, record.partition)
        known = is_known(work.row, record.key, item_id, now_ms=now_ms, sealed_row=read)
        is_new = not known or without("dedupe")
        if item_id in work.seen or not (is_new if work.redrive is None else work.redrive.asks_for(_id_of(work, item))):
            EVENTS.labels(STAGE, "duplicate").inc()
            return False
        work.seen.add(item_id)
        if not known:
            work.ids.append(item_id)
        return True

    async def _reply(self, work: _Work, item: Item, *, send: str) -> tuple[str, str, DeadLetter | None]:
        """Return the text, the step it belongs to, and, where the agent failed, the dead letter that says so."""
        agent = work.whose.agent
        step = REDRIVE_STEP if _is_redriven(work) else ANSWER_STEP
        # As many as the row keeps: one record may bring hundreds of messages, and all of their answers.
        history = tuple([(turn.role, turn.text[:TURN_LENGTH_MAX]) for turn in (*work.row.turns, *work.turns)[-TURNS_MAX:]])
        turn = AgentTurn(
            conversation=work.key,
            instructions=agent.instructions,
            history=history,
            text=item.text,
            send=send,
        )
        try:
            reply, _ = await with_retries(
                lambda: self._answer(work.whose, turn), patience=self._patience, what=f"agent {agent.id}", stage=STAGE, final=(AgentError,)
            )
        except AgentError as error:
            letter = self._letter(work.record, cause=error.cause, error=error, attempts=1, tenant=work.whose.tenant)
        except Exception as error:  # noqa: BLE001  # whatever an agent raises: the user is answered and an operator is told
            tries = self._patience.tries
            letter = self._letter(work.record, cause="agent-error", error=error, attempts=tries, tenant=work.whose.tenant)
        else:
            return reply.text, step, None
        # What a model says of its failure may repeat what it was told; it is in the dead letter.
        log.warning("agent failed, fallback sent", agent=agent.id, cause=letter.cause)
        return agent.fallback or DEFAULT_FALLBACK, FALLBACK_STEP, letter

    def _outbound(self, work: _Work, item: Item, *, send: str, cause: str, text: str, step: str) -> OutboundEvent:
        part = work.part
        return OutboundEvent(
            # A fallback has the id of the answer it stands for: after a crash the agent may do what it did not do before, or the reverse.
            id=send,
            conversation=work.key,
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
            raw=work.origin,
            caused_at=work.record.timestamp_ms,
            lookup=work.redrive is not None,
        )

    def _outputs(
        self, work: _Work, item: Item, *, cause: str, outcome: str, reason: str, send: OutboundEvent | None
    ) -> list[asyncio.Future[int]]:
        part, record = work.part, work.record
        now_ms = max(self._clock.now_ms(), part.received_at)
        inbound = InboundEvent(
            id=cause,
            conversation=work.key,
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
            raw=work.origin,
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
        self, record: Record, owned: Callable[[], bool], row: ConversationRow, *, ids: list[str], turns: list[Turn], name: Name
    ) -> None:
        changes = advance(row, record.key, done=record.offset, item_ids=ids, turns=turns, now_ms=self._clock.now_ms(), name=name)
        for key, sealed in changes.seal:
            self._check(owned)
            await self._table.put(record.partition, key, encode(sealed))
        self._check(owned)
        await self._table.put(record.partition, record.key, encode(changes.row))
        for key in changes.drop:
            await self._table.put(record.partition, key, None)

    def _letter(self, record: Record, *, cause: str, error: Exception, attempts: int, tenant: str) -> DeadLetter:
        redrive = read_redrive(record.headers)
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
            tenant=tenant,
            redrive_of=redrive.letter if redrive is not None else "",
        )

    async def _dead_letter(self, record: Record, owned: Callable[[], bool], letter: DeadLetter) -> None:
        point("streams.before_dead_letter")
        self._check(owned)
        await write_dead_letter(self._producer, letter, key=record.key, value=record.value)
        point("streams.dead_letter_written")

    @staticmethod
    def _check(owned: Callable[[], bool]) -> None:
        if not owned():
            raise LostPartitionError


def _part_of(record: Record) -> WebhookPart:
    """Return what a record of [raw] holds; DecodeError if that is nothing which ingress or streams write."""
    part: WebhookPart = decode(record.value, IN_RAW)
    # Its row, its ids and where it is answered are the key's.
    if not isinstance(part, RoutedPart) and part.conversation.encode("utf-8", "replace") != record.key:
        raise DecodeError(f"WebhookPart of {part.conversation!r} under another key")
    return part


def _id_of(work: _Work, item: Item) -> str:
    return event_id(work.key, item.id)


def _is_redriven(work: _Work) -> bool:
    """Tell whether single items are redriven; of a record that could not be read nothing was ever answered."""
    return work.redrive is not None and bool(work.redrive.items)
