"""[outbound-*] and [status] -> platform -> [sent], with [ledger] for what waits long: the sender. In order, and nothing twice.

A send is claimed before its first byte leaves, so that no other worker, and not this one after a pause, can make it again. What was
certainly not sent is tried again. A lost answer (and a claim that a former owner left without an outcome) is UNKNOWN: it waits for a status
that carries the send's id and is settled by it, else it is recorded as unknown (`OTTLA_UNKNOWN=park`) or sent once more and marked
(`resend`). The next message of the conversation waits for the one before it. What must wait longer than `OTTLA_PLANNED_AFTER` is
written to [ledger], which the sender reads too, so that its record, and all that came after it in the partition, need not be held for it.
"""

import asyncio
import math
import random
import time
from collections.abc import Collection, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog

from infra.fault_points import point, without
from infra.kafka.commits import LostPartitionError
from infra.kafka.consumer import Taken
from infra.kafka.dead_letters import write_dead_letter
from infra.kafka.record import Record
from infra.metrics import PAUSES, REPLY_SECONDS, SEND_RETRIES, SEND_SECONDS, SENDS, SENDS_RESENT, SENDS_SETTLED, SENDS_WAITING
from infra.post_client import ClosedError, PostClient, Reply
from infra.retries import Patience, with_retries
from infra.tracing import span
from schemas.channels import CHANNELS
from schemas.channels.base import Answer, Outcome, Pause, Request
from schemas.codec import Headers, cloud_event_headers, decode, encode
from schemas.events.config import Account
from schemas.events.dead_letter import DeadLetter
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.events.sent import SentEvent
from schemas.topics import LEDGER, OUTBOUND, SENT, STATUS
from sinks.base import Claims, Context
from sinks.budgets import Budgets
from sinks.claimed_request import ClaimedRequest
from sinks.ledger import Ledger
from sinks.ledger_reading import settlements, take
from sinks.older_sends import OlderSends
from sinks.pauses import Key, Pauses
from sinks.send_traces import SendTraces

log = structlog.get_logger()

T = TypeVar("T")

NAME = "sender"

CONNECT_S = 5.0
ANSWER_S = 35.0
_CONNECTIONS_MAX = 512
# A connection idle for longer may be closed by the other side just as we write: that reset would leave an UNKNOWN.
_IDLE_S = 10.0
_PLANS_AT_ONCE = 2_000


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """What the last attempt brought, and how many tries there were (waiting because the platform said so is no try)."""

    answer: Answer
    http_status: int = 0
    tries: int = 1
    settled: bool = False
    resent: bool = False


class _MustWaitError(Exception):
    """The send must wait long; `unknown` is what is known of it if it was tried, then it waits `wait_s` seconds for a status."""

    def __init__(self, unknown: Attempted | None = None, wait_s: float = 0.0) -> None:
        super().__init__()
        self.unknown = unknown
        self.wait_s = wait_s


class _ToldError(Exception):
    """A status tells that the send has left before: it must not leave again."""


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
        self._chance = random.Random()  # noqa: S311  # jitter, no secret
        self._pauses = Pauses(context.clock, self._chance)
        PAUSES.set_function(lambda: len(self._pauses))
        settings = context.settings
        self._budgets = Budgets(context.clock, number_rate=settings.number_rate, pair_rate=settings.pair_rate)
        self._ledger = Ledger()
        self._traces = SendTraces()
        self._older = OlderSends(context.settings)
        self._claims: Claims | None = None
        self._posts: PostClient | None = None
        self._sends = {outcome: SENDS.labels(outcome) for outcome in ("accepted", "rejected", "unknown", "planned", "suppressed")}
        self._took = {outcome: SEND_SECONDS.labels(outcome.value) for outcome in Outcome}
        SENDS_WAITING.labels("status").set_function(lambda: self._ledger.waiting)
        SENDS_WAITING.labels("budget").set_function(lambda: self._budgets.waiting)
        SENDS_WAITING.labels("ledger").set_function(lambda: self._ledger.planned)

    def hosted(self, claims: Claims) -> None:
        """Learn who makes the claims."""
        self._claims = claims

    def lane(self, record: Record) -> Hashable:
        """Return the conversation; statuses have lanes of their own, for a send may wait for one, and so have planned sends."""
        return (record.topic if record.topic in {STATUS.name, LEDGER.name} else "", record.key)

    async def start(self) -> None:
        """Get ready to connect; nothing is asked of the platform."""
        url = self._context.settings.whatsapp_api
        if url:
            self._posts = PostClient(url, connections_max=_CONNECTIONS_MAX, idle_s=_IDLE_S, connect_s=CONNECT_S)

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
        if self._posts is not None:
            self._posts.close()
        await self._older.close()

    def take_at_once(self, record: Record) -> bool:
        """Learn from a status: that takes no waiting."""
        if record.topic != STATUS.name:
            return False
        for send, platform_id in settlements(record.value):
            self._ledger.note_accepted(record.partition, send, platform_id)
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
            await self._plan(record, outbound, _MustWaitError(self._left(record, outbound), self._unknown_wait_s(outbound)))
            return
        async with self._ledger.alone_with(outbound.id):
            if await self._has_outcome(record, outbound, since_ms=_since_ms(record, outbound)):
                return
            try:
                await self._send(record, outbound, self._left(record, outbound), may_plan=True)
            except _MustWaitError as wait:
                await self._plan(record, outbound, wait)

    async def _handle_planned(self, record: Record) -> None:
        planned = decode(record.value, PlannedEvent)
        outbound = planned.send
        async with self._ledger.alone_with(outbound.id):
            if not await self._has_outcome(record, outbound, since_ms=planned.since):
                unknown, wait_s = self._left(record, outbound), None
                if planned.state == Outcome.UNKNOWN.value and not self._ledger.was_claimed(record):
                    answer = Answer(outcome=Outcome.UNKNOWN, error=planned.error)
                    unknown, wait_s = Attempted(answer=answer, http_status=planned.http_status, tries=planned.attempts), planned.wait_s
                await self._send(record, outbound, unknown, wait_s=wait_s, may_plan=False)
        self._ledger.note_plan_ended(record)

    def _left(self, record: Record, outbound: OutboundEvent) -> Attempted | None:
        """Return what is known of a send that may have been made already: an unknown one; None if it was certainly not."""
        return _LEFT_CLAIMED if self._ledger.may_have_left(record, outbound.id) else None

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

    async def _plan(self, record: Record, outbound: OutboundEvent, wait: _MustWaitError) -> None:
        """Write the send to [ledger]; from then on all of its conversation waits there, in order."""
        since_ms = _since_ms(record, outbound)
        event = PlannedEvent(send=outbound, state="planned", at=self._context.clock.now_ms(), since=since_ms)
        if wait.unknown is not None:
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
        """Send until the outcome is known, or settle what is `unknown`, and record the outcome; _MustWaitError if it `may_plan`."""
        started_ms = self._context.clock.now_ms()
        self._traces.note(outbound.id)
        attempted = unknown or await self._attempt_until_known(record, outbound, may_plan=may_plan)
        if attempted.answer.outcome is Outcome.UNKNOWN:
            attempted = await self._settle(record, outbound, attempted, may_plan=may_plan, wait_s=wait_s)
        answer = attempted.answer
        # RETRY with the tries used up: certainly not sent, and nobody will try again.
        outcome = "rejected" if answer.outcome is Outcome.RETRY else answer.outcome.value
        if outcome == "rejected":
            # Certainly not sent, so after a crash from here on it is tried again; who finds an outcome does nothing any more.
            self._unclaim(record)
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
        platform_id = await self._unless_leaving(self._ledger.settled(record.partition, outbound.id, timeout_s=here_s))
        if platform_id:
            SENDS_SETTLED.inc()
            answer = Answer(outcome=Outcome.ACCEPTED, platform_id=platform_id, error=attempted.answer.error)
            return replace(attempted, answer=answer, settled=True)
        if here_s < wait_s:
            raise _MustWaitError(attempted, wait_s - here_s)
        if (outbound.unknown or self._context.settings.unknown) == "park":
            return attempted
        again = await self._attempt_until_known(record, outbound, may_plan=False, is_again=True)
        return replace(again, tries=again.tries + attempted.tries, resent=True)

    def _unknown_wait_s(self, outbound: OutboundEvent) -> float:
        return self._context.settings.unknown_wait if outbound.unknown_wait is None else outbound.unknown_wait

    async def _attempt_until_known(self, record: Record, outbound: OutboundEvent, *, may_plan: bool, is_again: bool = False) -> Attempted:
        """Try until the send is accepted, rejected or unknown, or the tries are used up; _MustWaitError if it `may_plan` and waits long.

        Unless it is sent `is_again`, knowing that it may have left, a status that tells of it meanwhile makes it unknown: it has left.
        """
        request = CHANNELS[outbound.channel].build_request(outbound)
        keys: tuple[Key, ...] = (
            (Pause.PAIR, outbound.conversation),
            (Pause.NUMBER, outbound.account),
            (Pause.APP, outbound.channel),
        )
        tries = 0
        here_until = self._context.clock.monotonic() + self._planned_after_s
        while True:
            # While the whole app waits nobody is held up by the others: then there is no need to plan.
            if may_plan and self._context.clock.monotonic() + self._pauses.remaining_s(keys[:2]) > here_until:
                raise _MustWaitError
            await self._until_not_paused(keys)
            rate = self._rate(outbound)
            if not self._budgets.take_at_once(outbound, rate):
                old_s = (self._context.clock.now_ms() - record.timestamp_ms) / 1000
                if may_plan and self._budgets.waits_long(outbound, rate, old_s=old_s, here_s=self._planned_after_s):
                    raise _MustWaitError
                await self._within_budget(outbound, rate, here_until if may_plan else math.inf)
                if self._pauses.remaining_s(keys) > 0:
                    self._budgets.give_back(outbound)
                    continue  # all who were let go meanwhile would leave at once when the pause ends
            started = time.perf_counter()
            with span("POST messages", kind="client", attributes={"http.request.method": "POST", "ottla.send": outbound.id}) as call:
                status, answer = await self._attempt(record, outbound, request, is_again=is_again)
                call.set("http.response.status_code", status)
                call.set("ottla.outcome", answer.outcome.value)
            self._took[answer.outcome].observe(time.perf_counter() - started)
            if answer.outcome is Outcome.ACCEPTED:
                self._pauses.succeeded(keys)
                self._ledger.note_accepted(record.partition, outbound.id, answer.platform_id)
            if answer.outcome is not Outcome.RETRY:
                return Attempted(answer=answer, http_status=status, tries=tries + 1)
            self._unclaim(record)
            if not answer.throttled:
                tries += 1
                if tries >= self._patience.tries:
                    return Attempted(answer=answer, http_status=status, tries=tries)
            self._wait_because(answer, keys, tries)

    async def _until_not_paused(self, keys: tuple[Key, ...]) -> None:
        if self._pauses.remaining_s(keys) > 0:
            await self._unless_leaving(self._pauses.wait(keys))

    async def _within_budget(self, outbound: OutboundEvent, rate: float | None, until: float) -> None:
        """Wait for the budgets, and raise _MustWaitError if that takes longer than until then: others may go before it again and again."""
        left_s = until - self._context.clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s) if left_s < math.inf else None):
                await self._unless_leaving(self._budgets.take(outbound, rate))
        except TimeoutError:
            raise _MustWaitError from None

    async def _unless_leaving(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait, but LostPartitionError as soon as partitions are taken away: nothing is under way, and the next owner waits on."""
        if self._claims is None:
            raise RuntimeError("nobody hosts the sender")
        waits, leaves = asyncio.ensure_future(waiting), asyncio.ensure_future(self._claims.leaving.wait())
        try:
            await asyncio.wait({waits, leaves}, return_when=asyncio.FIRST_COMPLETED)
            if not waits.done():
                raise LostPartitionError
            return waits.result()
        finally:
            waits.cancel()
            leaves.cancel()

    async def _claim(self, record: Record, send: str, *, is_again: bool) -> float:
        """Claim a record; return until when its send may leave. _ToldError if a status tells that it has left before, now or meanwhile."""
        if self._claims is None:
            raise RuntimeError("nobody hosts the sender")
        if without("claim"):
            return math.inf
        self._check_untold(record, send, is_again=is_again)
        until = await self._claims.claim(record)
        self._check_untold(record, send, is_again=is_again)
        point("sender.claimed")
        return math.inf if without("claim-time") else until

    def _check_untold(self, record: Record, send: str, *, is_again: bool) -> None:
        if not is_again and self._ledger.was_told(record, send):
            raise _ToldError

    def _begins(self, record: Record) -> None:
        if self._claims is not None:
            self._claims.begins(record)

    def _unclaim(self, record: Record) -> None:
        if self._claims is not None:
            self._claims.unclaim(record)

    def _wait_because(self, answer: Answer, keys: tuple[Key, ...], tries: int) -> None:
        key = next((key for key in keys if key[0] is answer.pause), keys[0])
        at_least_s = answer.retry_after_s
        if not answer.throttled:
            at_least_s = max(at_least_s, self._patience.first_delay_s * self._patience.factor ** (tries - 1))
        length_s = self._pauses.note(key, at_least_s=at_least_s)
        SEND_RETRIES.labels(str(answer.error_code) if answer.error_code else "unreachable").inc()
        log.warning("send will be repeated", pause=key[0].value, code=answer.error_code, error=answer.error, wait_s=round(length_s, 1))

    async def _attempt(self, record: Record, outbound: OutboundEvent, request: Request, *, is_again: bool) -> tuple[int, Answer]:
        """Post the request once and read the answer; LostPartitionError if it is somebody else's to send by now."""
        if self._posts is None:
            return 0, _unreachable("no address is set")
        text = self._posts.request(request.path, request.body, token=self._token(outbound))
        claim = partial(self._claim, record, outbound.id, is_again=is_again)
        claimed = ClaimedRequest(text, claim=claim, begins=lambda: self._begins(record))
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await _posted(self._posts, claimed)
        except _ToldError:
            return 0, Answer(outcome=Outcome.UNKNOWN, error="a status told of it before it was tried once more")
        except (OSError, TimeoutError) as error:
            why = f"{type(error).__name__} {error}".strip()
            if claimed.left:
                return 0, Answer(outcome=Outcome.UNKNOWN, error=f"answer lost: {why}")
            return 0, _unreachable(why)
        point("sender.answered")
        return reply.status, CHANNELS[outbound.channel].read_answer(reply.status, reply.body, reply.headers)

    def _account(self, outbound: OutboundEvent) -> Account | None:
        return self._context.config.account_by_phone_number_id(outbound.account)

    def _rate(self, outbound: OutboundEvent) -> float | None:
        account = self._account(outbound)
        return account.rate if account is not None else None

    def _token(self, outbound: OutboundEvent) -> str:
        account = self._account(outbound)
        return (account.token if account is not None else "") or self._context.settings.whatsapp_token.get_secret_value()

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


def _unreachable(why: str) -> Answer:
    """Return what it means that nothing left: that says nothing about the message, so it is no try, and everything waits."""
    return Answer(outcome=Outcome.RETRY, error=f"unreachable: {why}", pause=Pause.APP, throttled=True)


async def _posted(posts: PostClient, request: ClaimedRequest) -> Reply:
    """Let a request leave over a connection and return its answer; one that is closed while we claim is no reason to give up."""
    try:
        return await _posted_once(posts, request)
    except ClosedError:
        return await _posted_once(posts, request)


async def _posted_once(posts: PostClient, request: ClaimedRequest) -> Reply:
    async with posts.connection() as connection:
        await request.leave(connection)
        return await connection.answer()


def build(context: Context) -> OutboundToPlatform:
    """Return the sink on real things."""
    return OutboundToPlatform(context)
