"""webhook -> [raw] [status]: verify, split, store, and only then answer 200.

The signature is checked over the raw bytes before anything reads them. Every part of the body is produced with acks=all and awaited:
200 means that all of it is in the log. Whatever cannot be stored within five seconds is 503, and the platform sends it again.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.clock import Clock
from infra.fault_points import point, without
from infra.kafka.producer import ProduceError, Producer, settle
from infra.metrics import WEBHOOK_SECONDS, WEBHOOKS
from infra.tracing import span
from ingress.body import BODY_DEADLINE_S, LARGE_BODY_BYTES, BodyTooLargeError, BodyTooSlowError, NoRoomError, body_of
from ingress.problems import problem
from ingress.splitting import SplittingEndedError
from ingress.takes import Parameter, takes
from schemas.channels.base import BodyRefusedError, Channel, Part
from schemas.codec import cloud_event_headers
from schemas.ids import account_of_key, event_id
from schemas.topics import BODY_BYTES_MAX, STATUS

log = structlog.get_logger()

STORE_DEADLINE_S = 5.0
_STORED = Response(status_code=200)
# A body may have tens of thousands of parts, at some 20 µs each. Others have their turn after so many of them,
_TURN_PARTS = 50
# and so many wait for the broker at a time, before those of others.
_PRODUCED_PARTS = 1_000

SplitApart = Callable[..., Awaitable[list[Part]]]
"""Splits as `Channel.split` does, but where others do not wait for it; SplittingEndedError if that has come to nothing."""


class Secrets(Protocol):
    """Where the webhook gets what may have signed a body; `complete` once every account was read."""

    complete: bool

    def app_secrets(self, account: str | None = None) -> Sequence[bytes]:
        """Return every secret that is valid now; with the platform's id of an account those that may sign for it."""

    def verify_token(self) -> str:
        """Return the token of the verification challenge."""


# Beginning a hash takes as long as some bytes of it do; so much of both takes a tenth of a millisecond.
_HASH_BEGINS_BYTES, _HASHED_AT_ONCE_BYTES = 4_096, 128 * 1024


class WebhookToRaw:
    """The webhook of one channel; its methods are Starlette endpoints. Large bodies are split by `split_apart`, without it in a thread."""

    def __init__(
        self, channel: Channel, *, producer: Producer, secrets: Secrets, clock: Clock, split_apart: SplitApart | None = None
    ) -> None:
        self._channel = channel
        self._producer = producer
        self._secrets = secrets
        self._clock = clock
        self._split_apart = split_apart or self._split_in_thread
        self._status_partitions = 0
        self._counted = {status: WEBHOOKS.labels(status) for status in (200, 401, 503)}

    async def challenge(self, request: Request) -> Response:
        """Answer the platform's verification challenge with its own text, if it knows the token."""
        query = request.query_params
        if query.get("hub.mode") == "subscribe" and _same(query.get("hub.verify_token", ""), self._secrets.verify_token()):
            return PlainTextResponse(query.get("hub.challenge", "")[:1_000])
        return problem(403, "Verification refused", "hub.mode must be subscribe and hub.verify_token the configured token.")

    async def receive(self, request: Request) -> Response:
        """Take one webhook body: 200 stored, 401 not signed by us, 400 not JSON, 413 too large, 408 too slow, 503 not stored."""
        started = time.perf_counter()
        # The platform's own trace, if it sends one, is nobody's here: whoever posts would choose the ids.
        about = {"http.request.method": "POST", "http.route": request.scope["path"]}
        with span("POST webhook", kind="server", parent=[], attributes=about) as call:
            response = await self._answer(request)
            call.set("http.response.status_code", response.status_code)
        (self._counted.get(response.status_code) or WEBHOOKS.labels(response.status_code)).inc()
        WEBHOOK_SECONDS.observe(time.perf_counter() - started)
        return response

    async def _answer(self, request: Request) -> Response:
        try:
            async with body_of(request) as body:
                return await self._take(body, request.headers)
        except BodyTooLargeError:
            return problem(413, "Body too large", f"A webhook body may have {BODY_BYTES_MAX} bytes.")
        except NoRoomError:
            return problem(503, "Too many large bodies", "Others arrive already; send the webhook again.", {"Retry-After": "5"})
        except BodyTooSlowError:
            return problem(408, "Body too slow", f"The whole body must arrive within {BODY_DEADLINE_S:.0f} seconds.")

    async def _take(self, body: bytes, headers: Mapping[str, str]) -> Response:
        if not await self._verify(body, headers, self._secrets.app_secrets()):
            if not self._secrets.complete:
                # It may be signed with the secret of an account that we have yet to read.
                return problem(503, "Starting", "The accounts are being read; send the webhook again.", {"Retry-After": "2"})
            return problem(401, "Signature refused", "X-Hub-Signature-256 must be the HMAC-SHA256 of the raw body with the app secret.")
        received_at_ms = self._clock.now_ms()
        try:
            parts = await self._split(body, received_at_ms)
        except BodyRefusedError as error:
            return problem(400, "Not JSON", str(error))
        except SplittingEndedError:
            log.warning("webhook not split", size=len(body))
            return problem(503, "Not stored", "The body could not be split this time; send the webhook again.", {"Retry-After": "5"})
        if not await self._may_be_of(parts, body, headers):
            return problem(401, "Signature refused", "The app secret of one account signs nothing of another: apply each with its own.")
        point("ingress.before_produce")
        try:
            await self._store(parts, received_at_ms)
        except (ProduceError, TimeoutError) as error:
            log.warning("webhook not stored", error=str(error) or "no acknowledgement in time", parts=len(parts))
            return problem(503, "Not stored", "The log did not acknowledge in time; send the webhook again.", {"Retry-After": "5"})
        point("ingress.produced")
        return _STORED

    async def _may_be_of(self, parts: Sequence[Part], body: bytes, headers: Mapping[str, str]) -> bool:
        """Tell whether whoever signed the body may speak for every account in it: one tenant's secret is nobody else's."""
        count = len(self._secrets.app_secrets())
        for account in {account_of_key(part.key) for part in parts} - {""}:
            secrets = self._secrets.app_secrets(account)
            if len(secrets) < count and not await self._verify(body, headers, secrets):
                return False
        return True

    async def _verify(self, body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> bool:
        if len(secrets) * (len(body) + _HASH_BEGINS_BYTES) <= _HASHED_AT_ONCE_BYTES:
            return self._channel.verify(body, headers, secrets)
        # Milliseconds for each secret there is, whoever posted it; hashing lets others go on meanwhile.
        return await asyncio.to_thread(self._channel.verify, body, headers, secrets)

    async def _split(self, body: bytes, received_at_ms: int) -> list[Part]:
        if len(body) <= LARGE_BODY_BYTES:
            return self._channel.split(body, received_at_ms=received_at_ms)
        return await self._split_apart(body, received_at_ms=received_at_ms)

    async def _split_in_thread(self, body: bytes, *, received_at_ms: int) -> list[Part]:
        return await asyncio.to_thread(self._channel.split, body, received_at_ms=received_at_ms)

    async def _store(self, parts: Sequence[Part], received_at_ms: int) -> None:
        """Produce every part and wait for all of them; ProduceError or TimeoutError unless all are acknowledged."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STORE_DEADLINE_S
        if not self._status_partitions and any(part.partition_hash is not None for part in parts):
            async with asyncio.timeout_at(deadline):
                self._status_partitions = await self._producer.partitions(STATUS.name)
        queued: list[asyncio.Future[int]] = []
        # Every webhook sets this timer and hardly any needs it: asyncio.timeout costs four times as much.
        timer = loop.call_at(deadline, _give_up, queued)
        try:
            for first in range(0, len(parts), _PRODUCED_PARTS):
                if loop.time() >= deadline:
                    raise TimeoutError
                await self._store_some(parts[first : first + _PRODUCED_PARTS], received_at_ms, queued)
        finally:
            timer.cancel()

    async def _store_some(self, parts: Sequence[Part], received_at_ms: int, queued: list[asyncio.Future[int]]) -> None:
        queued.clear()
        try:
            for count, part in enumerate(parts, start=1):
                queued.append(self._produce(part, received_at_ms))
                if count % _TURN_PARTS == 0:
                    await asyncio.sleep(0)
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


def _give_up(queued: Sequence[asyncio.Future[int]]) -> None:
    for future in queued:
        if not future.done():
            future.set_exception(TimeoutError())


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


_ASKED = {
    "hub.mode": Parameter("what the platform asks", {"type": "string", "enum": ["subscribe"]}),
    "hub.verify_token": Parameter("the token that it was given"),
    "hub.challenge": Parameter("what it wants to read as the answer"),
}
_SIGNATURE = {"x-hub-signature-256": Parameter("sha256= and the HMAC-SHA256 of the body with the app secret, in hexadecimal digits")}


@takes(query=_ASKED)
async def _challenge(request: Request) -> Response:
    """Answer the platform's verification challenge."""
    webhook: WebhookToRaw = request.app.state.webhook
    return await webhook.challenge(request)


@takes(headers=_SIGNATURE, body={"type": "object"})
async def _receive(request: Request) -> Response:
    """Take a signed webhook body; 200 when all of it is stored."""
    webhook: WebhookToRaw = request.app.state.webhook
    return await webhook.receive(request)


PATHS = ("/webhooks/whatsapp", "/api/webhook", "/api/webhooks/whatsapp")
"""The contract's path and the two that are known from before."""


class WebhooksFirst:
    """ASGI middleware in front of the others: a posted webhook needs no page, key or route, and is most of what comes.

    It is answered as its route would answer it, which stands below for the description of the interface.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a webhook, pass on any other call."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        response = await _receive(Request(scope, receive))
        await response(scope, receive, send)


routes = [route for path in PATHS for route in (Route(path, _challenge, methods=["GET"]), Route(path, _receive, methods=["POST"]))]
