"""Attempts to send: claimed, within budgets and pauses, one after the other until it is known what became of the send."""

import asyncio
import math
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from infra.fault_points import point, without
from infra.kafka.commits import LostPartitionError
from infra.kafka.record import Record
from infra.metrics import PAUSES, SEND_RETRIES, SEND_SECONDS
from infra.post_client import ClosedError, PostClient, Reply
from infra.retries import Patience
from infra.tracing import span
from schemas.channels import CHANNELS
from schemas.channels.base import Answer, Outcome, Pause, Request
from schemas.events.config import Account
from schemas.events.outbound import OutboundEvent
from sinks.base import Claims, Context
from sinks.budgets import Budgets
from sinks.claimed_request import ClaimedRequest
from sinks.ledger import Ledger
from sinks.pauses import Key, Pauses

log = structlog.get_logger()

T = TypeVar("T")

CONNECT_S = 5.0
ANSWER_S = 35.0
_CONNECTIONS_MAX = 512
# A connection idle for longer may be closed by the other side just as we write: that reset would leave an UNKNOWN.
_IDLE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """What the last attempt brought, and how many tries there were (waiting because the platform said so is no try)."""

    answer: Answer
    http_status: int = 0
    tries: int = 1
    settled: bool = False
    resent: bool = False


class MustWaitError(Exception):
    """The send must wait long; `unknown` is what is known of it if it was tried, then it waits `wait_s` seconds for a status."""

    def __init__(self, unknown: Attempted | None = None, wait_s: float = 0.0) -> None:
        super().__init__()
        self.unknown = unknown
        self.wait_s = wait_s


class _ToldError(Exception):
    """A status tells that the send has left before: it must not leave again."""


class Attempts:
    """Makes them for one sender. `budgets` and what is known of sends (`ledger`) are the sender's."""

    def __init__(self, context: Context, ledger: Ledger, budgets: Budgets, patience: Patience) -> None:
        self._context = context
        self._ledger = ledger
        self._budgets = budgets
        self._patience = patience
        self._planned_after_s = context.settings.planned_after
        self._pauses = Pauses(context.clock, random.Random())  # noqa: S311  # jitter, no secret
        self._claims: Claims | None = None
        self._posts: PostClient | None = None
        self._took = {outcome: SEND_SECONDS.labels(outcome.value) for outcome in Outcome}
        PAUSES.set_function(lambda: len(self._pauses))

    def hosted(self, claims: Claims) -> None:
        """Learn who makes the claims."""
        self._claims = claims

    def start(self) -> None:
        """Get ready to connect; nothing is asked of the platform."""
        url = self._context.settings.whatsapp_api
        if url:
            self._posts = PostClient(url, connections_max=_CONNECTIONS_MAX, idle_s=_IDLE_S, connect_s=CONNECT_S)

    def stop(self) -> None:
        """Close the connections."""
        if self._posts is not None:
            self._posts.close()

    def unclaim(self, record: Record) -> None:
        """Give the claim on a record back: its send has certainly not left."""
        if self._claims is not None:
            self._claims.unclaim(record)

    async def until_known(self, record: Record, outbound: OutboundEvent, *, may_plan: bool, is_again: bool = False) -> Attempted:
        """Try until the send is accepted, rejected or unknown, or the tries are used up; MustWaitError if it `may_plan` and waits long.

        Unless it is sent `is_again`, knowing that it may have left, a status that tells of it meanwhile makes it unknown: it has left.
        """
        request = CHANNELS[outbound.channel].build_request(outbound)
        keys: tuple[Key, ...] = (
            (Pause.PAIR, outbound.conversation),
            (Pause.NUMBER, outbound.account),
            (Pause.APP, outbound.channel),
        )
        tries = 0
        until = self._context.clock.monotonic() + self._planned_after_s if may_plan else math.inf
        while True:
            await self._turn(record, outbound, keys, until)
            started = time.perf_counter()
            with span("POST messages", kind="client", attributes={"http.request.method": "POST", "ottla.send": outbound.id}) as call:
                status, answer = await self._attempt(record, outbound, request, is_again=is_again)
                call.set("http.response.status_code", status)
                call.set("ottla.outcome", answer.outcome.value)
            self._took[answer.outcome].observe(time.perf_counter() - started)
            if answer.outcome is Outcome.ACCEPTED:
                self._pauses.succeeded(keys)
                self._ledger.note_accepted(record, outbound.id, answer.platform_id)
            if answer.outcome is not Outcome.RETRY:
                return Attempted(answer=answer, http_status=status, tries=tries + 1)
            if not is_again:  # else the attempt before this one may have left
                self.unclaim(record)
            if not answer.throttled:
                tries += 1
                if tries >= self._patience.tries:
                    return Attempted(answer=answer, http_status=status, tries=tries)
            self._wait_because(answer, keys, tries)

    async def _turn(self, record: Record, outbound: OutboundEvent, keys: tuple[Key, ...], until: float) -> None:
        """Wait for the send's turn, by pauses and budgets; MustWaitError if that comes only after `until` (by the clock, monotonic)."""
        may_plan = until < math.inf
        while True:
            # While the whole app waits nobody is held up by the others: then there is no need to plan.
            if may_plan and self._context.clock.monotonic() + self._pauses.remaining_s(keys[:2]) > until:
                raise MustWaitError
            if self._pauses.remaining_s(keys) > 0:
                await self.unless_leaving(self._pauses.wait(keys))
            rate = self._rate(outbound)
            if self._budgets.take_at_once(outbound, rate):
                return
            old_s = (self._context.clock.now_ms() - record.timestamp_ms) / 1000
            if may_plan and self._budgets.waits_long(outbound, rate, old_s=old_s, here_s=self._planned_after_s):
                raise MustWaitError
            await self._within_budget(outbound, rate, until)
            if self._pauses.remaining_s(keys) <= 0:
                return
            self._budgets.give_back(outbound)  # all who were let go meanwhile would leave at once when the pause ends

    async def _within_budget(self, outbound: OutboundEvent, rate: float | None, until: float) -> None:
        """Wait for the budgets, and raise MustWaitError if that takes longer than until then: others may go before it again and again."""
        left_s = until - self._context.clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s) if left_s < math.inf else None):
                await self.unless_leaving(self._budgets.take(outbound, rate))
        except TimeoutError:
            raise MustWaitError from None

    async def unless_leaving(self, waiting: Coroutine[Any, Any, T]) -> T:
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
