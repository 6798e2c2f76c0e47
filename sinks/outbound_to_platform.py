"""[outbound-*] and [status] -> platform -> [sent], with [ledger] for what waits long: the sender. In order, and nothing twice.

A send is claimed before its first byte leaves, so that no other worker, and not this one after a pause, can make it again. What was
certainly not sent is tried again. A lost answer (and a claim that a former owner left without an outcome) is UNKNOWN: it waits for a status
that carries the send's id and is settled by it, else it is recorded as unknown (`OTTLA_UNKNOWN=park`) or sent once more and marked
(`resend`). The next message of the conversation waits for the one before it. What must wait longer than `OTTLA_PLANNED_AFTER` is
written to [ledger], which the sender reads too, so that its record, and all that came after it in the partition, need not be held for it.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import msgspec
import structlog

from infra.fault_points import point
from infra.kafka.consumer import Taken
from infra.kafka.dead_letters import write_dead_letter
from infra.kafka.record import Record
from infra.metrics import REPLY_SECONDS, SENDS, SENDS_RESENT, SENDS_SETTLED, SENDS_WAITING
from infra.retries import Patience, with_retries
from schemas.channels.base import Answer, Outcome
from schemas.codec import Headers, cloud_event_headers, decode, encode
from schemas.events.dead_letter import DeadLetter
from schemas.events.inbound import RecordPosition
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.events.sent import SentEvent
from schemas.topics import LEDGER, OUTBOUND, SENT, STATUS
from sinks.attempts import Attempted, Attempts, MustWaitError
from sinks.base import Claims, Context
from sinks.budgets import Budgets
from sinks.ledger import Ledger
from sinks.ledger_reading import settlements, take
from sinks.older_sends import OlderSends
from sinks.send_traces import SendTraces

log = structlog.get_logger()

NAME = "sender"

_PLANS_AT_ONCE = 2_000
_LEFT_CLAIMED = Attempted(answer=Answer(outcome=Outcome.UNKNOWN, error="claimed by a worker that left no outcome"))


class OutboundToPlatform:
    """The sender sink."""

    group = NAME
    topics = (*OUTBOUND.values(), STATUS, LEDGER)
    batch_max = 1
    shares_lanes = False
    # They wait, and are in the log: hold no more of them in memory than leaves room for others.
    held_max: Mapping[str, int] = {LEDGER.name: _PLANS_AT_ONCE}
    # Of one who is sent much to, for whom much is planned: the plans of others must come to their turn.
    left_in_log: Collection[str] = (LEDGER.name,)
    unhurried: Collection[str] = (STATUS.name, LEDGER.name)

    def __init__(self, context: Context, *, patience: Patience | None = None) -> None:
        self._context = context
        self._patience = patience or Patience()
        self._planned_after_s = context.settings.planned_after
        settings = context.settings
        self._budgets = Budgets(context.clock, number_rate=settings.number_rate, pair_rate=settings.pair_rate)
        self._ledger = Ledger()
        self._attempts = Attempts(context, self._ledger, self._budgets, self._patience)
        self._traces = SendTraces()
        self._older = OlderSends(context.settings)
        self._sends = {outcome: SENDS.labels(outcome) for outcome in ("accepted", "rejected", "unknown", "planned", "suppressed")}
        SENDS_WAITING.labels("status").set_function(lambda: self._ledger.waiting)
        SENDS_WAITING.labels("budget").set_function(lambda: self._budgets.waiting)
        SENDS_WAITING.labels("ledger").set_function(lambda: self._ledger.planned)

    def hosted(self, claims: Claims) -> None:
        """Learn who makes the claims."""
        self._attempts.hosted(claims)

    def lane(self, record: Record) -> Hashable:
        """Return the conversation; statuses have lanes of their own, for a send may wait for one, and so have planned sends."""
        return (record.topic if record.topic in {STATUS.name, LEDGER.name} else "", record.key)

    async def start(self) -> None:
        """Get ready to connect; nothing is asked of the platform."""
        self._attempts.start()

    async def taken(self, taken: Sequence[Taken]) -> None:
        """Learn what became of the sends of these partitions."""
        held = {each.partition for each in taken}
        self._budgets.begin(len(held) / await self._context.producer.partitions(SENT.name))
        now_ms = self._context.clock.now_ms()

        def note(send: str, conversation: bytes, time_ms: int, headers: Headers) -> None:
            self._traces.note_sent(send, headers)
            self._budgets.note_sent(conversation.decode("utf-8", "replace"), ago_s=max(0, now_ms - time_ms) / 1000)

        await take(
            self._ledger, self._context.settings, taken, now_ms=now_ms, note=note, since_ms=now_ms - int(1000 * self._budgets.fill_s)
        )

    async def stop(self) -> None:
        """Close the connections."""
        self._attempts.stop()
        await self._older.close()

    def take_at_once(self, record: Record) -> bool:
        """Learn from a status: that takes no waiting."""
        if record.topic != STATUS.name:
            return False
        for send, platform_id in settlements(record.value):
            self._ledger.note_accepted(record, send, platform_id)
        return True

    async def handle(self, records: Sequence[Record]) -> None:
        """Send each record's message and record its outcome, or learn from a status; DecodeError for a record that is neither."""
        for record in records:
            if self.take_at_once(record):
                self._traces.show_statuses(record)
            elif record.topic == LEDGER.name:
                await self._handle_planned(record)
            else:
                await self._handle_outbound(record)

    async def _handle_outbound(self, record: Record) -> None:
        outbound = decode(record.value, OutboundEvent)
        if self._ledger.has_plans(record) and not self._ledger.has_outcome(record.partition, outbound.id):
            # It may have been sent by an owner that knew of no plans: those that were done come again where partitions are taken.
            await self._plan(record, outbound, MustWaitError(self._left(record, outbound), self._unknown_wait_s(outbound)))
            return
        async with self._ledger.alone_with(outbound.id):
            if await self._has_outcome(record, outbound, since_ms=_since_ms(record, outbound)):
                return
            try:
                await self._send(record, outbound, self._left(record, outbound), may_plan=True)
            except MustWaitError as wait:
                await self._plan(record, outbound, wait)

    async def _handle_planned(self, record: Record) -> None:
        planned = decode(record.value, PlannedEvent)
        outbound = planned.send
        async with self._ledger.alone_with(outbound.id):
            if not await self._has_outcome(record, outbound, since_ms=planned.since):
                unknown, wait_s = self._left(record, outbound, planned.source), None
                if planned.state == Outcome.UNKNOWN.value and not self._ledger.was_claimed(record):
                    answer = Answer(outcome=Outcome.UNKNOWN, error=planned.error)
                    unknown, wait_s = Attempted(answer=answer, http_status=planned.http_status, tries=planned.attempts), planned.wait_s
                await self._send(record, outbound, unknown, wait_s=wait_s, may_plan=False)
        self._ledger.note_plan_ended(record)

    def _left(self, record: Record, outbound: OutboundEvent, source: RecordPosition | None = None) -> Attempted | None:
        """Return what is known of a send that may have been made already: an unknown one; None if it was certainly not."""
        return _LEFT_CLAIMED if self._ledger.may_have_left(record, outbound.id, source=source) else None

    async def _has_outcome(self, record: Record, outbound: OutboundEvent, *, since_ms: int) -> bool:
        """Tell whether the send had its outcome before, after `since_ms`: then nothing is left to do."""
        known = self._ledger.has_outcome(record.partition, outbound.id)
        since = self._ledger.may_be_older(record.partition, caused_at_ms=since_ms)
        if not known and since is not None:
            known, _ = await with_retries(
                lambda: self._older.has_outcome(outbound.id, partition=record.partition, since=since),
                patience=self._patience,
                what=f"send {outbound.id}",
                stage=NAME,
            )
        if known:
            self._sends["suppressed"].inc()
        return known

    async def _plan(self, record: Record, outbound: OutboundEvent, wait: MustWaitError) -> None:
        """Write the send to [ledger]; from then on all of its conversation waits there, in order."""
        since_ms = _since_ms(record, outbound)
        source = RecordPosition(topic=record.topic, partition=record.partition, offset=record.offset)
        event = PlannedEvent(send=outbound, state="planned", at=self._context.clock.now_ms(), since=since_ms, source=source)
        if wait.unknown is not None:
            self._ledger.note_left(record, outbound.id)
            event = msgspec.structs.replace(
                event,
                state=Outcome.UNKNOWN.value,
                attempts=wait.unknown.tries,
                http_status=wait.unknown.http_status,
                error=wait.unknown.answer.error,
                wait_s=wait.wait_s,
            )
        self._ledger.note_planning(record)
        point("sender.before_plan")
        headers = cloud_event_headers(event_id=outbound.id, event_type="ottla.planned", source=NAME, time_ms=event.at)
        value, partition = encode(event), record.partition
        offset = await self._context.producer.send(LEDGER.name, key=record.key, value=value, headers=headers, partition=partition)
        point("sender.planned")
        self._ledger.note_planned(record, offset=offset)
        self._sends["planned"].inc()

    async def _send(
        self, record: Record, outbound: OutboundEvent, unknown: Attempted | None, *, may_plan: bool, wait_s: float | None = None
    ) -> None:
        """Send until the outcome is known, or settle what is `unknown`, and record the outcome; MustWaitError if it `may_plan`."""
        started_ms = self._context.clock.now_ms()
        self._traces.note(outbound.id)
        attempted = unknown or await self._attempts.until_known(record, outbound, may_plan=may_plan)
        if attempted.answer.outcome is Outcome.UNKNOWN:
            attempted = await self._settle(record, outbound, attempted, may_plan=may_plan, wait_s=wait_s)
        answer = attempted.answer
        # RETRY with the tries used up: certainly not sent, and nobody will try again.
        outcome = "rejected" if answer.outcome is Outcome.RETRY else answer.outcome.value
        if outcome == "rejected":
            if not attempted.resent:
                # Certainly not sent, so after a crash from here on it is tried again; who finds an outcome does nothing any more.
                self._attempts.unclaim(record)
            await self._dead_letter(record, outbound, attempted)
        sent = self._sent_event(outbound, attempted, outcome=outcome, started_ms=started_ms)
        offset = await self._record(record, sent)
        point("sender.outcome_recorded")
        self._ledger.note_outcome(record, outbound.id, offset=offset, time_ms=max(sent.at, record.timestamp_ms))
        self._sends[outcome].inc()
        if attempted.resent:
            SENDS_RESENT.inc()
        if outcome == "accepted" and outbound.caused_at and not attempted.settled:
            REPLY_SECONDS.observe(max(0, sent.at - outbound.caused_at) / 1000)
        if outcome != "accepted":
            log.warning("send not accepted", send=outbound.id, outcome=outcome, code=answer.error_code, error=answer.error)

    async def _settle(
        self, record: Record, outbound: OutboundEvent, attempted: Attempted, *, may_plan: bool, wait_s: float | None
    ) -> Attempted:
        """Wait for a status that tells what the answer did not; then park it, or send it once more if that is the policy."""
        point("sender.waiting_for_status")
        if wait_s is None:
            wait_s = self._unknown_wait_s(outbound)
        here_s = min(wait_s, self._planned_after_s) if may_plan else wait_s
        platform_id = await self._attempts.unless_leaving(self._ledger.settled(record, outbound.id, timeout_s=here_s))
        if platform_id:
            SENDS_SETTLED.inc()
            answer = Answer(outcome=Outcome.ACCEPTED, platform_id=platform_id, error=attempted.answer.error)
            return replace(attempted, answer=answer, settled=True)
        if here_s < wait_s:
            raise MustWaitError(attempted, wait_s - here_s)
        if (outbound.unknown or self._context.settings.unknown) == "park":
            return attempted
        again = await self._attempts.until_known(record, outbound, may_plan=False, is_again=True)
        return replace(again, tries=again.tries + attempted.tries, resent=True)

    def _unknown_wait_s(self, outbound: OutboundEvent) -> float:
        return self._context.settings.unknown_wait if outbound.unknown_wait is None else outbound.unknown_wait

    def _sent_event(self, outbound: OutboundEvent, attempted: Attempted, *, outcome: str, started_ms: int) -> SentEvent:
        now_ms = self._context.clock.now_ms()
        answer = attempted.answer
        return SentEvent(
            id=outbound.id,
            conversation=outbound.conversation,
            tenant=outbound.tenant,
            channel=outbound.channel,
            account=outbound.account,
            outcome=outcome,
            message=outbound.message,
            at=now_ms,
            created_at=outbound.created_at,
            attempts=attempted.tries,
            platform_id=answer.platform_id,
            http_status=attempted.http_status,
            error_code=answer.error_code,
            error=answer.error,
            agent=outbound.agent,
            cause=outbound.cause,
            waited_ms=max(0, started_ms - outbound.created_at),
            worked_ms=max(0, now_ms - started_ms),
            settled=attempted.settled,
            resent=attempted.resent,
        )

    async def _record(self, record: Record, sent: SentEvent) -> int:
        headers = cloud_event_headers(event_id=sent.id, event_type="ottla.sent", source=NAME, time_ms=sent.at)
        return await self._context.producer.send(SENT.name, key=record.key, value=encode(sent), headers=headers)

    async def _dead_letter(self, record: Record, outbound: OutboundEvent, attempted: Attempted) -> None:
        answer = attempted.answer
        letter = DeadLetter(
            stage=NAME,
            cause=f"rejected-{answer.error_code}" if answer.error_code else "rejected",
            error=answer.error or f"HTTP {attempted.http_status}",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            attempts=attempted.tries,
            at=self._context.clock.now_ms(),
            tenant=outbound.tenant,
        )
        point("sender.before_dead_letter")
        await write_dead_letter(self._context.producer, letter, key=record.key, value=record.value)
        point("sender.dead_letter_written")


def _since_ms(record: Record, outbound: OutboundEvent) -> int:
    """Return before when no outcome of a send can be, whose record of [outbound-*] this is; 0 where it may be as old as anything."""
    return 0 if outbound.lookup else min(record.timestamp_ms, outbound.caused_at or record.timestamp_ms)


def build(context: Context) -> OutboundToPlatform:
    """Return the sink on real things."""
    return OutboundToPlatform(context)
