"""/conversations: the list, one conversation's thread, and its timeline."""

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.cassandra.history import Conversation, Message
from infra.cassandra.listing import find_conversations, read_conversations
from infra.cassandra.reading import MessagePage, cursor_at, read_message, read_messages
from infra.cassandra.session import Cassandra
from ingress.api_conversations import spellings
from ingress.pages.downloads import Cell, Part, download, is_wanted
from ingress.pages.live import Item, version_of
from ingress.pages.render import error_page, page, piece, shown
from ingress.pages.way import Notice, Turn, Way, notice_of, turns_of, way_of
from ingress.pages.words import path_part

LISTED = 50
"""Messages of one page."""

_CONVERSATIONS = 25

_IN_FILE_AT_ONCE = 200
_FILE_NAME_LENGTH = 80
_TITLES = (
    *("at", "direction", "type", "text", "status", "delivered_at", "read_at", "decision", "reason", "agent", "step", "attempts"),
    *("error_code", "error", "id", "platform_id", "tenant", "conversation"),
)
_AROUND_MS = 15 * 60_000
_SEE_OTHER = 303


async def show_conversations(request: Request) -> Response:
    """Show the newest conversations, a page before a cursor, or those of a number, a user id or a key."""

    async def show(cassandra: Cassandra) -> Response:
        query, before = request.query_params.get("q", "").strip(), request.query_params.get("before") or None
        if ":" in query:
            return RedirectResponse(f"/conversations/{path_part(query)}", status_code=_SEE_OTHER)
        if query:
            found = await find_conversations(cassandra, tenant=request.state.tenant, contact=query)
        else:
            found = await read_conversations(cassandra, tenant=request.state.tenant, before=before, limit=_CONVERSATIONS)
        listed = [(each, version_of(each)) for each in found.conversations]
        is_first = before is None
        return page(
            request, "conversations.html", conversations=listed, before=found.before, query=query, is_first=is_first, limit=_CONVERSATIONS
        )

    return await shown(request, show)


async def newest_conversations(request: Request, cassandra: Cassandra) -> list[Item]:
    """Return the first page of the list, as it changes."""
    found = await read_conversations(cassandra, tenant=request.state.tenant, limit=_CONVERSATIONS)

    def item(each: Conversation) -> Item:
        version = version_of(each)
        return Item(f"c-{each.conversation}", version, lambda: piece(request, "entry.html", "entry", each, version))

    return [item(each) for each in found.conversations]


async def show_conversation(request: Request) -> Response:
    """Show a page of a conversation, as a thread or as a timeline."""

    async def show(cassandra: Cassandra) -> Response:
        before = request.query_params.get("before") or None
        found = await _messages(request, cassandra, request.path_params["id"], before=before)
        if found is None:
            return _missing(request)
        if is_wanted(request):
            return await _file(request, cassandra, found)
        shared: dict[str, Any] = {"conversation": found.conversation, "before": found.before, "name": _name(found.messages)}
        if request.query_params.get("view") == "timeline":
            live = {"view": "timeline", "conversation": found.conversation} if before is None else None
            ways = [(way, version_of(way)) for way in _ways(request, found.messages)]
            return page(request, "timeline.html", view="timeline", ways=ways, live=live, **shared)
        messages = [(message, version_of([message, notice]), notice) for message, notice in reversed(_noticed(found.messages))]
        return page(request, "thread.html", view="thread", messages=messages, is_newest=before is None, **shared)

    return await shown(request, show)


async def _file(request: Request, cassandra: Cassandra, first: MessagePage) -> Response:
    async def read(cursor: str) -> Part:
        found = await _messages(request, cassandra, first.conversation, before=cursor, limit=_IN_FILE_AT_ONCE)
        return ([_cells(each) for each in found.messages], found.before) if found is not None else ([], None)

    name = re.sub("[^0-9A-Za-z-]+", "-", first.conversation)[:_FILE_NAME_LENGTH]
    return await download(name, _TITLES, ([_cells(each) for each in first.messages], first.before), read)


def _cells(message: Message) -> list[Cell]:
    told = [next((each.at for each in message.statuses if each.status == status), "") for status in ("delivered", "read")]
    why = (message.decision, message.reason, message.agent, message.step, message.attempts, message.error_code or None, message.error)
    said = (message.at, message.direction, message.type, message.text, message.status, *told)
    return [*said, *why, message.id, message.platform_id, message.tenant, message.conversation]


async def newest_messages(request: Request, cassandra: Cassandra) -> list[Item]:
    """Return the newest messages of the conversation that the query names, as they change."""
    found = await _messages(request, cassandra, request.query_params.get("conversation", ""))

    def item(message: Message, notice: Notice | None) -> Item:
        version = version_of([message, notice])
        return Item(f"m-{message.id}", version, lambda: piece(request, "bubble.html", "bubble", message, version, notice))

    return [item(*each) for each in _noticed(found.messages)] if found is not None else []


async def newest_ways(request: Request, cassandra: Cassandra) -> list[Item]:
    """Return the newest turns of the conversation that the query names, as they change; with `message` only that one's."""
    conversation, message = (request.query_params.get(name, "") for name in ("conversation", "message"))
    if message:
        way = await _one_way(request, cassandra, conversation, message)
        ways = [way] if way is not None else []
    else:
        found = await _messages(request, cassandra, conversation)
        ways = _ways(request, found.messages) if found is not None else []

    def item(way: Way) -> Item:
        version = version_of(way)
        return Item(f"t-{way.id}", version, lambda: piece(request, "turn.html", "turn", way, version))

    return [item(each) for each in ways]


async def show_message(request: Request) -> Response:
    """Show every hop of one message, with what was sent because of it or what it was sent for."""

    async def show(cassandra: Cassandra) -> Response:
        conversation, message = request.path_params["id"], request.path_params["message"]
        way = await _one_way(request, cassandra, conversation, message)
        if way is None:
            return _missing(request)
        live = {"view": "timeline", "conversation": conversation, "message": message, "at": request.query_params.get("at", "")}
        ways = [(way, version_of(way))]
        return page(request, "timeline.html", view="message", conversation=way.conversation, before=None, name="", ways=ways, live=live)

    return await shown(request, show)


async def _one_way(request: Request, cassandra: Cassandra, conversation: str, message: str) -> Way | None:
    """Return the way of a message of which the query says when it was."""
    at = request.query_params.get("at", "")
    if not at.isascii() or not at.isdigit():
        return None
    # A reply comes soon after its question; those that came later are asked for by their ids.
    found = await _messages(request, cassandra, conversation, before=cursor_at(int(at[:15]) + _AROUND_MS))
    turn = next((each for each in turns_of(found.messages) if message in _ids(each)), None) if found is not None else None
    if turn is None:
        found = await _messages(request, cassandra, conversation, before=cursor_at(int(at[:15])))
        turn = next((each for each in turns_of(found.messages) if message in _ids(each)), None) if found is not None else None
    if turn is None:
        return None
    missing = [reply for reply in turn.first.replies if reply not in _ids(turn)]
    late = [await read_message(cassandra, tenant=request.state.tenant, message_id=reply) for reply in missing]
    whole = Turn(turn.first, [*turn.answers, *(each for each in late if each is not None)])
    return way_of(whole, request.app.state.config.agents)


def _ids(turn: Turn) -> set[str]:
    return {each.id for each in (turn.first, *turn.answers)}


async def _messages(
    request: Request, cassandra: Cassandra, given: str, before: str | None = None, *, limit: int = LISTED
) -> MessagePage | None:
    for conversation in spellings(given):
        found = await read_messages(cassandra, tenant=request.state.tenant, conversation=conversation, before=before, limit=limit)
        if found is not None:
            return found
    return None


def _ways(request: Request, messages: Sequence[Message]) -> list[Way]:
    return [way_of(turn, request.app.state.config.agents) for turn in turns_of(messages)]


def _noticed(messages: Sequence[Message]) -> list[tuple[Message, Notice | None]]:
    """Return messages with what somebody has to know of them."""
    answers = {turn.first.id: turn.answers for turn in turns_of(messages)}
    return [(message, notice_of(message, answers.get(message.id, []))) for message in messages]


def _name(messages: Sequence[Message]) -> str:
    """Return the name under which the other side last wrote; empty if it is only the number again."""
    sender = next((each.sender for each in messages if each.sender is not None and each.sender.name), None)
    return "" if sender is None or sender.name in (sender.phone, f"+{sender.phone}") else sender.name


def _missing(request: Request) -> Response:
    return error_page(request, 404, "There is no such conversation", "Look for it by its number, or among all conversations.")


routes = [
    Route("/conversations", show_conversations, methods=["GET"]),
    Route("/conversations/{id:path}/messages/{message}", show_message, methods=["GET"]),
    Route("/conversations/{id:path}", show_conversation, methods=["GET"]),
]
