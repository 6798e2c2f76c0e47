"""/audit: what people had done, for the administrator."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.reading import EVERY_TENANT
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.log_reader import log_reader
from ingress.pages.render import error_page, page
from schemas.codec import DecodeError, decode
from schemas.events.audit import AuditEvent
from schemas.topics import AUDIT

_LISTED = 100
_DIGITS_MAX = 18


async def show_audit(request: Request) -> Response:
    """Show a page of what was done, newest first."""
    if request.state.tenant != EVERY_TENANT:
        return error_page(request, 403, "Admin key needed", "What everybody did is for the administrator: log in with the admin key.")
    before = request.query_params.get("before", "")
    if before and (not before.isascii() or not before.isdigit() or len(before) > _DIGITS_MAX):
        return error_page(request, 422, "There is no such page of the list", "Go back to its beginning and on from there.")
    try:
        async with log_reader(request.app.state.settings, AUDIT) as reader:
            records = await reader.read_before(0, int(before) if before else None, count=_LISTED)
    except KafkaUnreachableError as error:
        return error_page(request, 503, "Kafka does not answer", f"{error} Try again in a few seconds.")
    events = []
    for record in reversed(records):
        try:
            events.append(decode(record.value, AuditEvent))
        except DecodeError:
            continue
    older = records[0].offset if len(records) == _LISTED and records[0].offset > 0 else None
    return page(request, "audit.html", events=events, before=older)


routes = [Route("/audit", show_audit, methods=["GET"])]
