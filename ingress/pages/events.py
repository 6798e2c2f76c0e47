"""GET /events: the changes of an open page, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import ExitStack, aclosing
from typing import Any, NamedTuple

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from infra.cassandra.aliases import conversation_of_key, members_of
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.errors import NotFoundError
from infra.kafka.admin import KafkaUnreachableError
from ingress.pages import conversations, dead_letters, overview, sends, topics
from ingress.pages.coming import coming_records, records_asked_for
from ingress.pages.live import EVERY_S, Item, Said, changes
from schemas.topics import DEAD_LETTERS, INBOUND, OUTBOUND, SENT, STATUS, Topic

log = structlog.get_logger()

_RETRY_MS = 2000
_FIGURES_S = 2.0
_RECORDS = "records"
_MESSAGES = (INBOUND, *OUTBOUND.values(), SENT, STATUS)


class View(NamedTuple):
    """What can be followed: the topics whose records change it, and how it is read."""

    topics: Collection[Topic]
    read: Callable[[Request, Any], Awaitable[list[Item]]]
    is_whole: bool  # it has all there is: what is not among its items is gone
    every_s: float = EVERY_S
    needs_history: bool = True


VIEWS = {
    "conversations": View((INBOUND, *OUTBOUND.values()), conversations.newest_conversations, is_whole=False),
    "thread": View(_MESSAGES, conversations.newest_messages, is_whole=False),
    "timeline": View(_MESSAGES, conversations.newest_ways, is_whole=False),
    "dead-letters": View((DEAD_LETTERS,), dead_letters.newest_groups, is_whole=True),
    # Figures are looked at anyway: following topics for them would cost more than looking.
    "overview": View((), overview.newest_overview, is_whole=True, every_s=_FIGURES_S, needs_history=False),
    "topics": View((), topics.newest_topics, is_whole=True, every_s=_FIGURES_S, needs_history=False),
    "sends": View((SENT, STATUS), sends.newest_sends, is_whole=True),
}
FOLLOWED = (*_MESSAGES, DEAD_LETTERS)
"""The topics that any view follows."""


async def follow(request: Request) -> Response:
    """Answer the changes of a view until the browser goes, or for ten minutes; 503 while Cassandra is away or too many follow."""
    name = request.query_params.get("view", "")
    view, state = VIEWS.get(name), request.app.state
    if view is None and name != _RECORDS:
        return Response("There is no such view.", status_code=404)
    if not state.streams.has_room(request.state.tenant) or (view is not None and view.needs_history and state.cassandra is None):
        return Response("Not now.", status_code=503, headers={"Retry-After": "5"})
    if view is not None:
        return _stream(request, _changes(request, view))
    followed = records_asked_for(request)
    if followed is None:
        return Response("There are no such records.", status_code=404)
    return _stream(request, coming_records(request, followed))


def _stream(request: Request, said: AsyncGenerator[Said, None]) -> Response:
    return StreamingResponse(_events(request, said), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(request: Request, said: AsyncGenerator[Said, None]) -> AsyncIterator[bytes]:
    streams = request.app.state.streams
    ours = object()
    streams.add(ours, request.state.tenant)
    try:
        yield f"retry: {_RETRY_MS}\n\n".encode()
        async with aclosing(said) as all_said:
            async for each in all_said:
                yield b"event: items\ndata: " + orjson.dumps(each) + b"\n\n"
    except (CassandraAwayError, KafkaUnreachableError, NotFoundError) as error:
        # The browser asks again.
        log.info("a page cannot be followed for now", error=str(error))
    finally:
        streams.discard(ours)


async def _changes(request: Request, view: View) -> AsyncGenerator[Said, None]:
    """Yield what changes of a view: the HTML of elements that are other, and the ids of all there are, where a view has them all."""
    state = request.app.state
    read = _reading(request, view)
    with ExitStack() as open_watch:
        written = asyncio.Event()
        if view.topics:
            keys = await _keys(state.cassandra, request.query_params.get("conversation", ""))
            written = open_watch.enter_context(state.follower.watching(view.topics, keys)).written
        async for change in changes(read, written, lambda: bool(state.is_leaving()), time.monotonic, every_s=view.every_s):
            yield {"html": change.html, "ids": change.ids if view.is_whole else None}


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
