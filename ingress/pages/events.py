"""GET /events: the changes of an open page, as server-sent events."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import NamedTuple

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from infra.cassandra.aliases import conversation_of_key, members_of
from infra.cassandra.session import Cassandra, CassandraAwayError
from ingress.pages import conversations, dead_letters, sends
from ingress.pages.live import Item, changes
from schemas.topics import DEAD_LETTERS, INBOUND, OUTBOUND, SENT, STATUS, Topic

log = structlog.get_logger()

STREAMS_MAX = 100
"""Streams of one process at a time."""

_RETRY_MS = 2000
_MESSAGES = (INBOUND, *OUTBOUND.values(), SENT, STATUS)


class View(NamedTuple):
    """What can be followed: the topics whose records change it, and how it is read."""

    topics: Collection[Topic]
    read: Callable[[Request, Cassandra], Awaitable[list[Item]]]
    is_whole: bool  # it has all there is: what is not among its items is gone


VIEWS = {
    "conversations": View((INBOUND, *OUTBOUND.values()), conversations.newest_conversations, is_whole=False),
    "thread": View(_MESSAGES, conversations.newest_messages, is_whole=False),
    "timeline": View(_MESSAGES, conversations.newest_ways, is_whole=False),
    "dead-letters": View((DEAD_LETTERS,), dead_letters.newest_groups, is_whole=True),
    "sends": View((SENT, STATUS), sends.newest_sends, is_whole=True),
}
FOLLOWED = (*_MESSAGES, DEAD_LETTERS)
"""The topics that any view follows."""


async def follow(request: Request) -> Response:
    """Answer the changes of a view until the browser goes, or for ten minutes; 503 while Cassandra is away or too many follow."""
    view = VIEWS.get(request.query_params.get("view", ""))
    if view is None:
        return Response("There is no such view.", status_code=404)
    state = request.app.state
    if state.cassandra is None or len(state.streams) >= STREAMS_MAX:
        return Response("Not now.", status_code=503, headers={"Retry-After": "5"})
    return StreamingResponse(_events(request, view), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(request: Request, view: View) -> AsyncIterator[bytes]:
    state = request.app.state
    ours = object()
    state.streams.add(ours)
    try:
        yield f"retry: {_RETRY_MS}\n\n".encode()
        keys = await _keys(state.cassandra, request.query_params.get("conversation", ""))
        with state.follower.watching(view.topics, keys) as watch:
            read = _reading(request, view)
            async for change in changes(read, watch.written, lambda: bool(state.is_leaving()), time.monotonic):
                said = {"html": change.html, "ids": change.ids if view.is_whole else None}
                yield b"event: items\ndata: " + orjson.dumps(said) + b"\n\n"
    except CassandraAwayError as error:
        # The browser asks again.
        log.info("a page cannot be followed for now", error=str(error))
    finally:
        state.streams.discard(ours)


def _reading(request: Request, view: View) -> Callable[[], Awaitable[list[Item]]]:
    async def read() -> list[Item]:
        state = request.app.state
        items: list[Item] = await state.turns.take(lambda: view.read(request, state.cassandra))
        return items

    return read


async def _keys(cassandra: Cassandra, conversation: str) -> list[bytes] | None:
    """Return the keys of what belongs to a conversation; None for pages of all."""
    if not conversation:
        return None
    root = await conversation_of_key(cassandra, conversation)
    members = await members_of(cassandra, root)
    return [key.encode() for key in dict.fromkeys([conversation, *members])]


routes = [Route("/events", follow, methods=["GET"])]
