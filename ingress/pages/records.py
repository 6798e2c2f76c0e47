"""/records: one record of the log as it is."""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.reading import EVERY_TENANT, owners_of
from infra.cassandra.session import Cassandra
from infra.decoded import decoded
from infra.kafka.log_reader import log_reader
from infra.kafka.record import Record
from infra.record_lines import summary
from ingress.pages.looking import OFFSET_MAX, PARTITION_MAX, is_number
from ingress.pages.render import error_page, page, shown
from ingress.pages.words import lines_of
from schemas.topics import AGENTS, AUDIT, CONVERSATIONS_CHANGELOG, DEAD_LETTERS, INBOUND, LEDGER, OUTBOUND, RAW, SENT, STATUS

_OF_MESSAGES = {topic.name: topic for topic in (RAW, STATUS, INBOUND, *OUTBOUND.values(), SENT, LEDGER, DEAD_LETTERS)}
_OF_ALL = {topic.name: topic for topic in (AGENTS, AUDIT, CONVERSATIONS_CHANGELOG)}

LINKED = frozenset(_OF_MESSAGES.keys() | _OF_ALL.keys())
"""The topics whose records have a page: the others hold secrets. Those that hold no messages are the administrator's."""

_VALUE_LENGTH_MAX = 64 * 1024


async def show_record(request: Request) -> Response:
    """Show a record: where it stands, its key, headers and value. A tenant sees those of conversations that are all its own."""

    async def show(cassandra: Cassandra) -> Response:
        said = request.path_params
        is_admin = request.state.tenant == EVERY_TENANT
        topic = _OF_MESSAGES.get(said["topic"]) or (_OF_ALL.get(said["topic"]) if is_admin else None)
        if topic is None or not is_number(said["partition"], PARTITION_MAX) or not is_number(said["offset"], OFFSET_MAX):
            return _missing(request)
        async with log_reader(request.app.state.settings, topic) as reader:
            record = await reader.read(int(said["partition"]), int(said["offset"]))
        key = record.key.decode("utf-8", "backslashreplace") if record is not None else ""
        if record is None or not await _may_see(request, cassandra, key):
            return _missing(request)
        value, is_cut = _value(record)
        headers = [(name, text.decode("utf-8", "backslashreplace")) for name, text in record.headers]
        conversation = request.query_params.get("conversation", "")
        return page(
            request,
            "record.html",
            record=record,
            key=key,
            says=summary(decoded(record)),
            is_admin=is_admin,
            headers=headers,
            value=lines_of(value, _VALUE_LENGTH_MAX),
            is_cut=is_cut,
            conversation=conversation,
        )

    return await shown(request, show)


async def _may_see(request: Request, cassandra: Cassandra, key: str) -> bool:
    tenant: str = request.state.tenant
    return tenant == EVERY_TENANT or await owners_of(cassandra, key) == {tenant}


def _value(record: Record) -> tuple[str, bool]:
    """Return a record's value as text, indented where it is JSON, and whether it is only its beginning."""
    if len(record.value) <= _VALUE_LENGTH_MAX:
        try:
            return orjson.dumps(orjson.loads(record.value), option=orjson.OPT_INDENT_2).decode(), False
        except (orjson.JSONDecodeError, TypeError):
            pass
    return record.value[:_VALUE_LENGTH_MAX].decode("utf-8", "backslashreplace"), len(record.value) > _VALUE_LENGTH_MAX


def _missing(request: Request) -> Response:
    return error_page(request, 404, "There is no such record", "It may be older than what the log keeps, or another tenant's.")


routes = [Route("/records/{topic}/{partition}/{offset}", show_record, methods=["GET"])]
