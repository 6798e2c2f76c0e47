"""webhook -> [raw] [status]: verify, split, store, and only then answer 200.

The signature is checked over the raw bytes before anything reads them. Every part of the body is produced with acks=all and awaited:
200 means that all of it is in the log. Whatever cannot be stored within five seconds is 503, and the platform sends it again.
"""

import asyncio
import hmac
import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.clock import Clock
from infra.fault_points import point, without
from infra.kafka.producer import ProduceError, Producer, settle
from infra.metrics import WEBHOOK_SECONDS, WEBHOOKS
from ingress.problems import problem
from schemas.channels.base import BodyRefusedError, Channel, Part
from schemas.codec import cloud_event_headers
from schemas.ids import event_id
from schemas.topics import BODY_BYTES_MAX, STATUS

log = structlog.get_logger()

BODY_DEADLINE_S = 10.0
STORE_DEADLINE_S = 5.0
_LARGE_BODY_BYTES = 256 * 1024


class Secrets(Protocol):
    """Where the webhook gets what may have signed a body; `complete` once every account was read."""

    complete: bool

    def app_secrets(self) -> Sequence[bytes]:
        """Return every secret that is valid now."""

    def verify_token(self) -> str:
        """Return the token of the verification challenge."""


class BodyTooLargeError(Exception):
    """A body over the limit."""


class BodyTooSlowError(Exception):
    """A body that did not arrive within the deadline."""


class WebhookToRaw:
    """The webhook of one channel; its methods are Starlette endpoints."""

    def __init__(self, channel: Channel, *, producer: Producer, secrets: Secrets, clock: Clock) -> None:
        self._channel = channel
        self._producer = producer
        self._secrets = secrets
        self._clock = clock
        self._status_partitions = 0

    async def challenge(self, request: Request) -> Response:
        """Answer the platform's verification challenge with its own text, if it knows the token."""
        query = request.query_params
        if query.get("hub.mode") == "subscribe" and _same(query.get("hub.verify_token", ""), self._secrets.verify_token()):
            return PlainTextResponse(query.get("hub.challenge", "")[:1_000])
        return problem(403, "Verification refused", "hub.mode must be subscribe and hub.verify_token the configured token.")

    async def receive(self, request: Request) -> Response:
        """Take one webhook body: 200 stored, 401 not signed by us, 400 not JSON, 413 too large, 408 too slow, 503 not stored."""
        started = time.perf_counter()
        response = await self._answer(request)
        WEBHOOKS.labels(response.status_code).inc()
        WEBHOOK_SECONDS.observe(time.perf_counter() - started)
        return response

    async def _answer(self, request: Request) -> Response:
        try:
            body = await read_body(request)
        except BodyTooLargeError:
            return problem(413, "Body too large", f"A webhook body may have {BODY_BYTES_MAX} bytes.")
        except (BodyTooSlowError, ClientDisconnect):
            return problem(408, "Body too slow", f"The whole body must arrive within {BODY_DEADLINE_S:.0f} seconds.")
        if not self._channel.verify(body, request.headers, self._secrets.app_secrets()):
            if not self._secrets.complete:
                # It may be signed with the secret of an account that we have yet to read.
                return problem(503, "Starting", "The accounts are being read; send the webhook again.", {"Retry-After": "2"})
            return problem(401, "Signature refused", "X-Hub-Signature-256 must be the HMAC-SHA256 of the raw body with the app secret.")
        received_at_ms = self._clock.now_ms()
        try:
            parts = await self._split(body, received_at_ms)
        except BodyRefusedError as error:
            return problem(400, "Not JSON", str(error))
        point("ingress.before_produce")
        try:
            await self._store(parts, received_at_ms)
        except (ProduceError, TimeoutError) as error:
            log.warning("webhook not stored", error=str(error) or "no acknowledgement in time", parts=len(parts))
            return problem(503, "Not stored", "The log did not acknowledge in time; send the webhook again.", {"Retry-After": "5"})
        point("ingress.produced")
        return Response(status_code=200)

    async def _split(self, body: bytes, received_at_ms: int) -> list[Part]:
        if len(body) <= _LARGE_BODY_BYTES:
            return self._channel.split(body, received_at_ms=received_at_ms)
        # A hostile body of 4 MiB takes seconds: the others must not wait for it.
        return await asyncio.to_thread(self._channel.split, body, received_at_ms=received_at_ms)

    async def _store(self, parts: Sequence[Part], received_at_ms: int) -> None:
        """Produce every part and wait for all of them; ProduceError or TimeoutError unless all are acknowledged."""
        async with asyncio.timeout(STORE_DEADLINE_S):
            if not self._status_partitions and any(part.partition_hash is not None for part in parts):
                self._status_partitions = await self._producer.partitions(STATUS.name)
            queued: list[asyncio.Future[int]] = []
            try:
                for part in parts:
                    queued.append(self._produce(part, received_at_ms))  # noqa: PERF401  # the first ones count if a later one fails
            finally:
                # Also when the queue is full half-way: no acknowledgement may be left unread.
                if not without("acknowledged"):
                    await settle(queued)

    def _produce(self, part: Part, received_at_ms: int) -> asyncio.Future[int]:
        headers = cloud_event_headers(
            event_id=event_id(part.key, str(received_at_ms), str(len(part.value))),
            event_type=f"ottla.{part.topic}",
            source="ingress",
            time_ms=received_at_ms,
        )
        partition = -1 if part.partition_hash is None else part.partition_hash % self._status_partitions
        return self._producer.produce(part.topic, key=part.key.encode(), value=part.value, headers=headers, partition=partition)


async def read_body(request: Request) -> bytes:
    """Return the body; BodyTooLargeError over the limit, BodyTooSlowError past the deadline, ClientDisconnect if it ends early."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
        raise BodyTooLargeError
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > BODY_BYTES_MAX:
                    raise BodyTooLargeError
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlowError from None
    return b"".join(chunks)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


async def _challenge(request: Request) -> Response:
    webhook: WebhookToRaw = request.app.state.webhook
    return await webhook.challenge(request)


async def _receive(request: Request) -> Response:
    webhook: WebhookToRaw = request.app.state.webhook
    return await webhook.receive(request)


PATHS = ("/webhooks/whatsapp", "/api/webhook", "/api/webhooks/whatsapp")
"""The contract's path and the two that are known from before."""

routes = [route for path in PATHS for route in (Route(path, _challenge, methods=["GET"]), Route(path, _receive, methods=["POST"]))]
