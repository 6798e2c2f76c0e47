"""POST /v1/messages -> [outbound-*]: a send asked for by an API call.

An Idempotency-Key makes the id, so the same call again is the same send; without one every call is a send of its own.
"""

import asyncio
import re
import secrets
from typing import Annotated, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.cassandra.aliases import leads_to
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.config_tables import ConfigTables
from infra.kafka.producer import ProduceError, Producer
from infra.tracing import HEADER, span
from ingress.auth import EVERY_TENANT
from ingress.body import BodyTooLargeError, BodyTooSlowError, read_body
from ingress.problems import problem
from ingress.queue_position import QueuePositions
from ingress.takes import Parameter, takes
from schemas.codec import cloud_event_headers, encode
from schemas.events.config import DEFAULT_TENANT
from schemas.events.outbound import OutboundEvent
from schemas.ids import conversation_key, key_hash, send_id
from schemas.topics import OUTBOUND

_TEXT_LENGTH_MAX = 4096
_KEY_LENGTH_MAX = 255
_RESOLVE_S = 1.0
_ACCOUNTS_S = 2.0
_ADDRESS = re.compile(r"\+?[0-9]{5,20}")
_USER_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")


class Text(msgspec.Struct, forbid_unknown_fields=True):
    """The platform's text object."""

    body: str
    preview_url: bool = False


class SendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The platform's own message object plus `account`, `priority` and, for this send alone, the policy for a lost answer."""

    account: str
    to: str
    type: str
    text: Text
    priority: str = "normal"
    unknown: Literal["", "park", "resend"] = ""
    unknown_wait: Annotated[float, msgspec.Meta(ge=0, le=3600)] | None = None


class UnusableError(ValueError):
    """A request that cannot be sent; the text says what to change."""


_ACCEPTED = {
    "idempotency-key": Parameter("the same send for the same key", {"type": "string", "maxLength": _KEY_LENGTH_MAX}),
    HEADER: Parameter("the caller's trace, as W3C Trace Context has it"),
}


@takes(query={"mode": Parameter("how it is sent", {"type": "string", "enum": ["queued"]})}, headers=_ACCEPTED, body=SendRequest)
async def post_message(request: Request) -> Response:
    """Queue one text: 202 with its id and its place in the queue. A caller's `traceparent` is gone on with."""
    parent = [(HEADER, request.headers.get(HEADER, "").encode())]
    with span("POST /v1/messages", kind="server", parent=parent, attributes={"http.request.method": "POST"}) as call:
        response = await _post_message(request)
        call.set("http.response.status_code", response.status_code)
        return response


async def _post_message(request: Request) -> Response:
    key = request.headers.get("idempotency-key", "")
    if len(key) > _KEY_LENGTH_MAX:
        return problem(422, "Idempotency-Key too long", f"It may have {_KEY_LENGTH_MAX} characters.")
    if request.query_params.get("mode", "queued") != "queued":
        return problem(422, "Mode not supported", "Only queued sends are supported: leave `mode` out.")
    try:
        wanted = read_send_request(await read_body(request))
    except (BodyTooLargeError, BodyTooSlowError, UnusableError) as error:
        return problem(422, "Message not usable", str(error) or "The body is too large or too slow.")
    state = request.app.state
    if not await state.config.wait_until_started(timeout_s=_ACCOUNTS_S):
        return problem(503, "Starting", "The accounts are being read: whose number it is nobody knows yet.", {"Retry-After": "2"})
    event = outbound_event(wanted, tables=state.config, cause=key or secrets.token_hex(16), now_ms=state.clock.now_ms(), lookup=bool(key))
    if request.state.tenant not in (EVERY_TENANT, event.tenant):
        return problem(404, "No such account", f"Your key reaches no account with the number {wanted.account}.")
    if not key:
        # With a key the same call must come to the same partition for ever, whatever was learnt meanwhile: there is the send it repeats.
        event = msgspec.structs.replace(event, conversation=await _conversation(state.cassandra, event.conversation))
    return await queue(event, state.producer, state.queue_positions)


async def _conversation(cassandra: Cassandra | None, key: str) -> str:
    """Return the conversation an address belongs to; the address's own key while the database does not tell."""
    if cassandra is None:
        return key
    try:
        async with asyncio.timeout(_RESOLVE_S):
            return await leads_to(cassandra, key)
    except (CassandraAwayError, TimeoutError):
        return key


class Queued(NamedTuple):
    """Where a send stands in the log."""

    topic: str
    partition: int
    offset: int


async def queue(event: OutboundEvent, producer: Producer, positions: QueuePositions) -> Response:
    """Write a send to its topic: 202 with its id and place once that is acknowledged, 503 if it is not."""
    try:
        queued = await produce_send(event, producer)
    except ProduceError as error:
        return problem(
            503, "Not queued", f"The log did not acknowledge ({error}); send again with an Idempotency-Key.", {"Retry-After": "5"}
        )
    position = await positions.position(queued.topic, queued.partition, queued.offset)
    body = {"id": event.id, "conversation": event.conversation, "queued": True, "queuePosition": position}
    return JSONResponse(body, status_code=202)


async def produce_send(event: OutboundEvent, producer: Producer) -> Queued:
    """Write a send to its topic and wait for the acknowledgement; ProduceError if there is none."""
    headers = cloud_event_headers(event_id=event.id, event_type="ottla.outbound", source="ingress", time_ms=event.created_at)
    topic = OUTBOUND[event.priority].name
    partition = key_hash(event.conversation.encode()) % await producer.partitions(topic)
    offset = await producer.send(topic, key=event.conversation.encode(), value=encode(event), headers=headers, partition=partition)
    return Queued(topic, partition, offset)


def read_send_request(body: bytes) -> SendRequest:
    """Return the request in a body; UnusableError with a sentence if it cannot be sent."""
    try:
        wanted = msgspec.json.decode(body, type=SendRequest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnusableError(f"The body cannot be read: {error}.") from None
    if wanted.type != "text":
        raise UnusableError("`type` must be text.")
    if not 0 < len(wanted.text.body) <= _TEXT_LENGTH_MAX:
        raise UnusableError(f"`text.body` must have 1 to {_TEXT_LENGTH_MAX} characters.")
    if not _ADDRESS.fullmatch(wanted.to) and not _USER_ID.fullmatch(wanted.to):
        raise UnusableError("`to` must be a phone number with country code, or a business-scoped user id.")
    if not wanted.account.isascii() or not wanted.account.isdigit():
        raise UnusableError("`account` must be a phone number id, which has digits only.")
    if wanted.priority not in OUTBOUND:
        raise UnusableError(f"`priority` must be one of {', '.join(OUTBOUND)}.")
    return wanted


def outbound_event(wanted: SendRequest, *, tables: ConfigTables, cause: str, now_ms: int, lookup: bool = False) -> OutboundEvent:
    """Return the event for a request; the id comes from the conversation and the cause alone. `lookup`: the caller may use it again."""
    account = tables.account_by_phone_number_id(wanted.account)
    conversation = conversation_key(channel="wa", account=wanted.account, contact=wanted.to)
    return OutboundEvent(
        id=send_id(conversation=conversation, cause=cause, step="api"),
        conversation=conversation,
        tenant=account.tenant if account else DEFAULT_TENANT,
        channel="whatsapp",
        account=wanted.account,
        to=wanted.to,
        to_kind=kind_of_address(wanted.to),
        priority=wanted.priority,
        message=msgspec.Raw(msgspec.json.encode({"type": "text", "text": wanted.text})),
        cause=cause,
        step="api",
        created_at=now_ms,
        unknown=wanted.unknown,
        unknown_wait=wanted.unknown_wait,
        lookup=lookup,
    )


def kind_of_address(to: str) -> str:
    """Return what an address is that nobody told the kind of: user (a business-scoped user id) or phone."""
    return "user" if _USER_ID.fullmatch(to) else "phone"


routes = [Route("/v1/messages", post_message, methods=["POST"])]
