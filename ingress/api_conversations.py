"""GET /v1/conversations, /v1/conversations/{id}/messages, /v1/messages/{id}, /v1/sends: history as a tenant may see it."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.listing import find_conversations, read_conversations
from infra.cassandra.reading import CursorError, read_message, read_messages
from infra.cassandra.sends import UNKNOWN, read_unknown_sends
from infra.cassandra.session import Cassandra, CassandraAwayError
from ingress.problems import problem
from ingress.takes import BEFORE, LIMIT, Parameter, takes

_LIMIT_DEFAULT = 100


class ParameterError(ValueError):
    """A query parameter that cannot be used; the text says what to change."""


@takes(query={"contact": Parameter("a phone number or user id"), "before": BEFORE, "limit": LIMIT})
async def list_conversations(request: Request) -> Response:
    """Answer the tenant's conversations, newest first; `contact` asks for those of one phone number or user id."""

    async def read(cassandra: Cassandra) -> Response:
        contact = request.query_params.get("contact")
        if contact is not None:
            page = await find_conversations(cassandra, tenant=tenant_of(request), contact=contact)
        else:
            page = await read_conversations(cassandra, tenant=tenant_of(request), before=before_of(request), limit=limit_of(request))
        return _json(page)

    return await answered(request, read)


@takes(query={"before": BEFORE, "limit": LIMIT})
async def list_messages(request: Request) -> Response:
    """Answer a page of a conversation's messages, newest first."""

    async def read(cassandra: Cassandra) -> Response:
        for conversation in spellings(request.path_params["id"]):
            page = await read_messages(
                cassandra, tenant=tenant_of(request), conversation=conversation, before=before_of(request), limit=limit_of(request)
            )
            if page is not None:
                return _json(page)
        return problem(404, "No such conversation", "List those there are with GET /v1/conversations.")

    return await answered(request, read)


async def show_message(request: Request) -> Response:
    """Answer one send: its status, attempts and all that is known of it."""

    async def read(cassandra: Cassandra) -> Response:
        message = await read_message(cassandra, tenant=tenant_of(request), message_id=request.path_params["id"])
        if message is None:
            return problem(404, "No such message", "Check the id; a message just queued can be read a moment later.")
        return _json(message)

    return await answered(request, read)


@takes(query={"outcome": Parameter("which ones", {"type": "string", "enum": [UNKNOWN]}), "before": BEFORE, "limit": LIMIT})
async def list_sends(request: Request) -> Response:
    """Answer the sends of which nobody knows whether they arrived, newest first; settled ones are not among them."""

    async def read(cassandra: Cassandra) -> Response:
        if request.query_params.get("outcome", UNKNOWN) != UNKNOWN:
            raise ParameterError("`outcome` must be unknown: others are found in their conversations")
        return _json(await read_unknown_sends(cassandra, tenant=tenant_of(request), before=before_of(request), limit=limit_of(request)))

    return await answered(request, read)


async def answered(request: Request, read: Callable[[Cassandra], Awaitable[Response]]) -> Response:
    """Return what `read` answers, or the problem that kept it from answering."""
    cassandra: Cassandra | None = request.app.state.cassandra
    if cassandra is None:
        return _away()
    try:
        return await read(cassandra)
    except (CursorError, ParameterError) as error:
        return problem(422, "Parameter not usable", f"{error}.")
    except CassandraAwayError:
        return _away()


def _away() -> Response:
    return problem(503, "History is away", "Cassandra does not answer; ask again in a few seconds.", {"Retry-After": "5"})


def tenant_of(request: Request) -> str:
    """Return the caller's tenant, EVERY_TENANT for the administrator."""
    tenant: str = request.state.tenant
    return tenant


def before_of(request: Request) -> str | None:
    """Return the cursor that asks for the next page."""
    return request.query_params.get("before") or None


def limit_of(request: Request) -> int:
    """Return how many entries a page may have; ParameterError if that is no number."""
    given = request.query_params.get("limit", "") or str(_LIMIT_DEFAULT)
    if not given.isascii() or not given.isdigit() or int(given[:10]) == 0:
        raise ParameterError("`limit` must be a number from 1 on")
    return int(given[:10])


def spellings(given: str) -> list[str]:
    """Return the keys that may be meant: as given, and as it was before the key's own percent signs were decoded with the path."""
    parts = given.split(":", 2)
    return list(dict.fromkeys([given, ":".join(quote(part, safe="") for part in parts)]))


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json", headers={"Cache-Control": "no-store"})


routes = [
    Route("/v1/conversations", list_conversations, methods=["GET"]),
    Route("/v1/conversations/{id:path}/messages", list_messages, methods=["GET"]),
    Route("/v1/messages/{id}", show_message, methods=["GET"]),
    Route("/v1/sends", list_sends, methods=["GET"]),
]
