"""POST /v1/messages/{id}/retry -> [outbound-*]: a send that did not arrive, or of which nobody knows, once more as a new send.

The new id is made from the old one, so that asking twice is one send; its step is `resend` and its cause the old id. What the platform
took is refused. With `?dry_run=true` it only tells what would be done.
"""

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.cassandra.rows import write_rows
from infra.cassandra.sends import RESEND, UNKNOWN, Content, Send, read_content, read_send, resend_row
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.kafka.producer import ProduceError, Producer
from ingress.api_conversations import answered
from ingress.api_to_outbound import Queued, kind_of_address, produce_send
from ingress.audit import Audit, audit_of
from ingress.problems import problem
from ingress.takes import DRY_RUN, takes
from schemas.events.inbound import RecordPosition
from schemas.events.outbound import OutboundEvent
from schemas.ids import send_id
from schemas.topics import OUTBOUND

log = structlog.get_logger()

_QUEUED = 202
_DRY_RUN = frozenset({"true", "1"})


class RefusedResendError(Exception):
    """A send that is not sent again; the text is one sentence that says why."""


@takes(query={"dry_run": DRY_RUN})
async def retry_message(request: Request) -> Response:
    """Queue the send again: 202 with the new id, 404 for an unknown one, 409 with a sentence for what must not be sent again."""

    async def retry(cassandra: Cassandra) -> Response:
        state = request.app.state
        try:
            event = await plan_resend(cassandra, tenant=request.state.tenant, send=request.path_params["id"], now_ms=state.clock.now_ms())
        except RefusedResendError as error:
            return problem(409, "Not sent again", str(error))
        if event is None:
            return problem(404, "No such message", "Check the id; `ottla sends list` names the unknown ones.")
        if request.query_params.get("dry_run") in _DRY_RUN:
            return JSONResponse({"id": event.id, "conversation": event.conversation, "queued": False})
        try:
            queued = await send_again(event, cassandra, state.producer, audit_of(request))
        except ProduceError as error:
            return problem(503, "Not queued", f"The log did not acknowledge ({error}): ask again.", {"Retry-After": "5"})
        position = await state.queue_positions.position(*queued)
        body = {"id": event.id, "conversation": event.conversation, "queued": True, "queuePosition": position}
        return JSONResponse(body, status_code=_QUEUED)

    return await answered(request, retry)


async def plan_resend(cassandra: Cassandra, *, tenant: str, send: str, now_ms: int) -> OutboundEvent | None:
    """Return the event that sends a send once more; None for an unknown id.

    Raises RefusedResendError for what must not be sent again, CassandraAwayError when the database does not answer.
    """
    found = await read_send(cassandra, tenant=tenant, send=send)
    if found is None:
        return None
    why_not = refusal(found)
    if why_not:
        raise RefusedResendError(why_not)
    content = await read_content(cassandra, found)
    if content is None:
        raise RefusedResendError(f"The text of {found.id} is not in history yet; ask again in a few seconds.")
    return resend_of(found, content, now_ms=now_ms)


async def send_again(event: OutboundEvent, cassandra: Cassandra, producer: Producer, audit: Audit) -> Queued:
    """Queue what `plan_resend` planned and note it; ProduceError when the log does not take it."""
    await audit.note("resend", event.cause, tenant=event.tenant, conversation=event.conversation, detail=event.id)
    queued = await produce_send(event, producer)
    await note_resend(cassandra, event)
    return queued


def refusal(send: Send) -> str:
    """Return the sentence that says why a send must not be sent again; empty if it may be."""
    if len(send.platform_ids) > 1:
        return f"{send.id} was sent twice already: the platform knows it as {' and '.join(send.platform_ids)}."
    if send.platform_ids and send.outcome == UNKNOWN:
        return f"{send.id} is settled: a status told that the platform took it as {send.platform_ids[0]}."
    if send.platform_ids:
        return f"{send.id} was accepted by the platform as {send.platform_ids[0]}; to say it again send a new message."
    if send.outcome not in {UNKNOWN, "rejected"}:
        return f"{send.id} has no outcome yet: it waits for its turn or for a status, see `ottla conv {send.conversation}`."
    if send.resent_as:
        return f"{send.id} was sent again already, as {send.resent_as}."
    return ""


def resend_of(send: Send, content: Content, *, now_ms: int) -> OutboundEvent:
    """Return the event that sends it once more, to the same address and with the same priority."""
    topic, partition, offset = content.raw or ("", 0, 0)
    return OutboundEvent(
        id=send_id(conversation=send.conversation, cause=send.id, step=RESEND),
        conversation=send.conversation,
        tenant=send.tenant,
        channel=send.channel,
        account=send.account,
        to=send.to,
        to_kind=send.to_kind or kind_of_address(send.to),
        priority=send.priority if send.priority in OUTBOUND else "normal",
        message=msgspec.Raw(content.payload),
        cause=send.id,
        step=RESEND,
        created_at=now_ms,
        agent=send.agent,
        raw=RecordPosition(topic=topic, partition=partition, offset=offset) if content.raw else None,
        lookup=True,
    )


async def note_resend(cassandra: Cassandra, event: OutboundEvent) -> None:
    """Write at once what history will write a moment later, so that asking again is refused from now on."""
    try:
        await write_rows(cassandra, [resend_row(send=event.cause, resent_as=event.id, time_ms=event.created_at)])
    except CassandraAwayError as error:
        log.warning("the resend is queued, but not noted yet", send=event.cause, resent_as=event.id, error=str(error))


routes = [Route("/v1/messages/{id}/retry", retry_message, methods=["POST"])]
