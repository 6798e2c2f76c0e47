"""[outbound-*] -> platform -> [sent]: the sender. In order in each conversation; what was certainly not sent is tried again.

A send's id travels as callback data, so every status brings it back. An answer is ACCEPTED (the platform's id), REJECTED for good, or
UNKNOWN: the request may have arrived and its answer was lost, so it is recorded and never sent a second time by itself.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import structlog

from infra.kafka.record import Record
from infra.metrics import SEND_RETRIES, SENDS
from infra.retries import Patience
from schemas.channels import CHANNELS
from schemas.channels.base import Answer, Outcome, Pause, Request
from schemas.codec import cloud_event_headers, decode, encode
from schemas.events.dead_letter import DeadLetter, dead_letter_headers
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.topics import DEAD_LETTERS, OUTBOUND, SENT
from sinks.base import Context
from sinks.pauses import Key, Pauses
from sinks.sent_ids import SentIds

log = structlog.get_logger()

NAME = "sender"

CONNECT_S = 5.0
ANSWER_S = 35.0
_CONNECTIONS_MAX = 512
# A connection idle for longer may be closed by the other side just as we write: that reset would leave an UNKNOWN.
_IDLE_S = 10.0
_ANSWER_BYTES_MAX = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """What the last attempt brought, and how many tries there were (waiting because the platform said so is no try)."""

    answer: Answer
    http_status: int
    tries: int


class OutboundToPlatform:
    """The sender sink."""

    group = NAME
    topics = tuple(OUTBOUND.values())
    batch_max = 1

    def __init__(self, context: Context, *, patience: Patience | None = None) -> None:
        self._context = context
        self._patience = patience or Patience()
        self._chance = random.Random()  # noqa: S311  # jitter, no secret
        self._pauses = Pauses(context.clock, self._chance)
        self._sent = SentIds()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool; nothing is asked of the platform."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, keepalive_timeout=_IDLE_S),
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S),
            auto_decompress=True,
            # Their cookies are nobody's business here.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def taken(self, partitions: set[int]) -> None:
        """Learn which sends of these partitions have an outcome already."""
        await self._sent.load(self._context.settings, group=NAME, partitions=partitions)

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, records: Sequence[Record]) -> None:
        """Send each record's message and record its outcome; DecodeError for a record that is no outbound event."""
        for record in records:
            outbound = decode(record.value, OutboundEvent)
            if self._sent.has(record.partition, outbound.id):
                SENDS.labels("suppressed").inc()
                continue
            await self._send(record, outbound)

    async def _send(self, record: Record, outbound: OutboundEvent) -> None:
        started_ms = self._context.clock.now_ms()
        attempted = await self._attempt_until_known(outbound)
        answer = attempted.answer
        # RETRY with the tries used up: certainly not sent, and nobody will try again.
        outcome = "rejected" if answer.outcome is Outcome.RETRY else answer.outcome.value
        sent = self._sent_event(outbound, attempted, outcome=outcome, started_ms=started_ms)
        await self._record(record, sent)
        self._sent.add(record.partition, outbound.id)
        SENDS.labels(outcome).inc()
        if outcome != "accepted":
            log.warning("send not accepted", send=outbound.id, outcome=outcome, code=answer.error_code, error=answer.error)
        if outcome == "rejected":
            await self._dead_letter(record, attempted)

    async def _attempt_until_known(self, outbound: OutboundEvent) -> Attempted:
        """Try until the send is accepted, rejected or unknown, or the tries are used up."""
        request = CHANNELS[outbound.channel].build_request(outbound)
        keys: tuple[Key, ...] = (
            (Pause.PAIR, outbound.conversation),
            (Pause.NUMBER, outbound.account),
            (Pause.APP, outbound.channel),
        )
        tries = 0
        while True:
            await self._pauses.wait(keys)
            status, answer = await self._attempt(outbound, request)
            if answer.outcome is Outcome.ACCEPTED:
                self._pauses.succeeded(keys)
            if answer.outcome is not Outcome.RETRY:
                return Attempted(answer=answer, http_status=status, tries=tries + 1)
            if not answer.throttled:
                tries += 1
                if tries >= self._patience.tries:
                    return Attempted(answer=answer, http_status=status, tries=tries)
            self._wait_because(answer, keys, tries)

    def _wait_because(self, answer: Answer, keys: tuple[Key, ...], tries: int) -> None:
        key = next((key for key in keys if key[0] is answer.pause), keys[0])
        at_least_s = answer.retry_after_s
        if not answer.throttled:
            at_least_s = max(at_least_s, self._patience.first_delay_s * self._patience.factor ** (tries - 1))
        length_s = self._pauses.note(key, at_least_s=at_least_s)
        SEND_RETRIES.labels(str(answer.error_code) if answer.error_code else "unreachable").inc()
        log.warning("send will be repeated", pause=key[0].value, code=answer.error_code, error=answer.error, wait_s=round(length_s, 1))

    async def _attempt(self, outbound: OutboundEvent, request: Request) -> tuple[int, Answer]:
        if self._session is None:
            raise RuntimeError("the sender was not started")
        url = f"{self._context.settings.whatsapp_api}/{request.path}"
        headers = {"Authorization": f"Bearer {self._token(outbound)}", "Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=request.body, headers=headers, allow_redirects=False) as response:
                body = await response.content.read(_ANSWER_BYTES_MAX)
                return response.status, CHANNELS[outbound.channel].read_answer(response.status, body, response.headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            # No connection, so not a byte left. It says nothing about this message: it is no try, and everything waits.
            return 0, Answer(outcome=Outcome.RETRY, error=f"unreachable: {error}", pause=Pause.APP, throttled=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, Answer(outcome=Outcome.UNKNOWN, error=f"answer lost: {type(error).__name__} {error}".strip())

    def _token(self, outbound: OutboundEvent) -> str:
        account = self._context.config.account_by_phone_number_id(outbound.account)
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
        )

    async def _record(self, record: Record, sent: SentEvent) -> None:
        headers = cloud_event_headers(event_id=sent.id, event_type="ottla.sent", source=NAME, time_ms=sent.at)
        await self._context.producer.send(SENT.name, key=record.key, value=encode(sent), headers=headers)

    async def _dead_letter(self, record: Record, attempted: Attempted) -> None:
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
        )
        await self._context.producer.send(DEAD_LETTERS.name, key=record.key, value=record.value, headers=dead_letter_headers(letter))


def build(context: Context) -> OutboundToPlatform:
    """Return the sink on real things."""
    return OutboundToPlatform(context)
