"""/dead-letters: what could not be handled, and having it handled again: first what would be done, then doing it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.dead_letters import (
    OPEN,
    STATES,
    Entry,
    Filter,
    Group,
    read_dead_letter,
    read_dead_letters,
    read_groups,
    read_stack,
)
from infra.cassandra.history import Position
from infra.cassandra.session import Cassandra
from infra.clock import iso
from ingress.api_dead_letters import read_original, redriver_of
from ingress.dead_letters_to_topics import Planned, Redriven, read_after
from ingress.pages.downloads import Cell, Part, download, is_wanted
from ingress.pages.forms import all_of, one_of
from ingress.pages.live import Item, version_of
from ingress.pages.looking import OFFSET_MAX, is_number
from ingress.pages.render import error_page, page, piece, shown

_LISTED = 50
_LOOKED_AT = 50
_AT_ONCE = 50
_IN_FILE_AT_ONCE = 200
_TITLES = (
    *("id", "failed_at", "stage", "cause", "error", "tenant", "conversation", "topic", "partition", "offset", "attempts", "bytes"),
    *("state", "redrives", "redriven_at", "redrive_of"),
)
_WORK_S = 5.0


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A group with a name of its own on the page."""

    id: str
    cause: str
    stage: str
    open: int
    redriven: int
    first: str
    last: str


async def show_groups(request: Request) -> Response:
    """Show how many there are of each cause."""

    async def show(cassandra: Cassandra) -> Response:
        before = request.query_params.get("before") or None
        groups, cursor = await read_groups(cassandra, tenant=request.state.tenant, wanted=Filter(), before=before)
        listed = [(each, version_of(each)) for each in map(_counted, groups)]
        listed.sort(key=lambda each: each[0].last, reverse=True)
        return page(request, "dead_letters.html", groups=listed, before=cursor, is_first=before is None)

    return await shown(request, show)


async def newest_groups(request: Request, cassandra: Cassandra) -> list[Item]:
    """Return the groups of the first page, as they change."""
    groups, _ = await read_groups(cassandra, tenant=request.state.tenant, wanted=Filter())

    def item(each: Counted) -> Item:
        version = version_of(each)
        return Item(f"g-{each.id}", version, lambda: piece(request, "group.html", "group", each, version, request.state.form_token))

    return [item(_counted(each)) for each in groups]


async def show_list(request: Request) -> Response:
    """Show a page of them, newest first: all, or those of a cause, a stage, a conversation or a state."""

    async def show(cassandra: Cassandra) -> Response:
        query = {name: request.query_params.get(name, "") for name in ("cause", "stage", "conversation")}
        state = request.query_params.get("state", "")
        wanted = Filter(**query, state=state if state in STATES else "")
        before = request.query_params.get("before") or None
        if is_wanted(request):
            return await _file(cassandra, request.state.tenant, wanted, before)
        found = await read_dead_letters(cassandra, tenant=request.state.tenant, wanted=wanted, before=before, limit=_LISTED)
        asked = {name: value for name, value in query.items() if value}
        twin = ["ottla", "dead-letters", "list"]
        for name, value in (asked | ({"state": wanted.state} if wanted.state else {})).items():
            twin += [f"--{name}", value]
        return page(request, "dead_letter_list.html", letters=found.entries, before=found.cursor, wanted=wanted, query=asked, twin=twin)

    return await shown(request, show)


async def _file(cassandra: Cassandra, tenant: str, wanted: Filter, before: str | None) -> Response:
    async def read(cursor: str | None) -> Part:
        found = await read_dead_letters(cassandra, tenant=tenant, wanted=wanted, before=cursor, limit=_IN_FILE_AT_ONCE)
        return [_cells(each) for each in found.entries], found.cursor

    return await download("dead-letters", _TITLES, await read(before), read)


def _cells(letter: Entry) -> list[Cell]:
    redriven = iso(letter.redriven_at_ms) if letter.redriven_at_ms else ""
    kept = (letter.state, letter.retry_count, redriven, letter.redrive_of)
    said = (iso(letter.at_ms), letter.stage, letter.cause, letter.error, letter.tenant, letter.conversation)
    return [letter.id, *said, letter.topic, letter.partition, letter.offset, letter.attempts, letter.size, *kept]


async def show_letter(request: Request) -> Response:
    """Show all that is known of one, with its original bytes and stack."""

    async def show(cassandra: Cassandra) -> Response:
        letter = await read_dead_letter(cassandra, tenant=request.state.tenant, letter=request.path_params["id"])
        if letter is None:
            return _missing(request)
        original = await read_original(request.app.state.settings, letter)
        stack = await read_stack(cassandra, letter.id)
        origin = Position(topic=letter.topic, partition=letter.partition, offset=letter.offset) if letter.topic else None
        return page(request, "dead_letter.html", letter=letter, original=original, stack=stack, origin=origin)

    return await shown(request, show)


async def redrive(request: Request) -> Response:
    """Show what would be redriven; with `do` redrive it: the chosen ids, every open one of a cause, or all of them."""

    async def show(cassandra: Cassandra) -> Response:
        form = request.state.form
        if all_of(form, "id"):
            return await _redrive_chosen(request, cassandra, all_of(form, "id"))
        if one_of(form, "cause") or one_of(form, "all"):
            read_after(one_of(form, "after"), 0)
            return await _redrive_open(request, cassandra)
        return error_page(request, 422, "None is chosen", "Go back and mark those that you mean.")

    return await shown(request, show)


async def _redrive_chosen(request: Request, cassandra: Cassandra, ids: Sequence[str]) -> Response:
    form = request.state.form
    is_done, again = bool(one_of(form, "do")), bool(one_of(form, "again"))
    found = [await read_dead_letter(cassandra, tenant=request.state.tenant, letter=each) for each in dict.fromkeys(ids)]
    letters = sorted((each for each in found if each is not None), key=lambda each: each.at_ms)
    if not letters:
        return _missing(request)
    async with redriver_of(request, cassandra) as redriver:
        done, refused = await redriver.redrive_all(letters, again=again, dry_run=not is_done)
    fields = [("id", each.id) for each, _ in done] + ([("again", "true")] if again else [])
    twin = ["ottla", "dead-letters", "redrive", *(each.id for each in letters), *(["--again"] if again else []), "--execute"]
    conversations = {each.conversation for each, _ in done}
    return _result(
        request,
        done=done,
        refused=refused,
        is_done=is_done,
        total=len(done),
        fields=[*fields, ("do", "yes")],
        twin=twin,
        conversation=conversations.pop() if len(conversations) == 1 else "",
    )


async def _redrive_open(request: Request, cassandra: Cassandra) -> Response:
    form = request.state.form
    cause, stage = one_of(form, "cause"), one_of(form, "stage")
    wanted, is_done = Filter(cause=cause, stage=stage), bool(one_of(form, "do"))
    fields = [(name, value) for name, value in (("cause", cause), ("stage", stage), ("all", one_of(form, "all"))) if value]
    twin = ["ottla", "dead-letters", "redrive", *(["--cause", cause] if cause else ["--all"])]
    twin += [*(["--stage", stage] if stage else []), "--execute"]
    async with redriver_of(request, cassandra) as redriver:
        counted = one_of(form, "total")[:9]
        before = int(counted) if is_number(counted, OFFSET_MAX) else 0
        after: str | None = one_of(form, "after")
        clock = request.app.state.clock
        until = clock.monotonic() + (_WORK_S if is_done else 0.0)
        whole = Redriven([], [], None)
        while after is not None:
            part = await redriver.redrive_page(
                tenant=request.state.tenant, wanted=wanted, after=after, limit=_AT_ONCE if is_done else _LOOKED_AT, dry_run=not is_done
            )
            whole.done.extend(part.done)
            whole.refused.extend(part.refused)
            after = part.after
            if clock.monotonic() >= until:
                break
    total = before + len(whole.done)
    if not is_done and after is not None:
        groups, _ = await read_groups(cassandra, tenant=request.state.tenant, wanted=msgspec.structs.replace(wanted, state=OPEN))
        total = max(total, sum(each.open for each in groups))
    if is_done and after is not None:
        fields += [("after", after), ("total", str(total))]
    return _result(
        request,
        done=whole.done,
        refused=whole.refused,
        is_done=is_done,
        total=total,
        fields=[*fields, ("do", "yes")],
        twin=twin,
        after=after if is_done else None,
        looked_at_first=len(whole.done) if not is_done and after is not None else 0,
    )


def _result(
    request: Request,
    *,
    done: Sequence[tuple[Entry, Planned]],
    refused: Sequence[tuple[Entry, str]],
    is_done: bool,
    total: int,
    fields: Sequence[tuple[str, str]],
    twin: Sequence[str],
    after: str | None = None,
    looked_at_first: int = 0,
    conversation: str = "",
) -> Response:
    said: dict[str, Any] = {
        "planned": sorted(Counter((each.stage, each.cause, planned.topic) for each, planned in done).items()),
        "refused": [(each.id, why) for each, why in refused],
        "is_done": is_done,
        "total": total,
        "fields": fields,
        "twin": twin,
        "after": after,
        "looked_at_first": looked_at_first,
        "conversation": conversation,
    }
    return page(request, "redrive.html", **said)


def _counted(group: Group) -> Counted:
    return Counted(id=version_of([group.stage, group.cause]), **msgspec.structs.asdict(group))


def _missing(request: Request) -> Response:
    return error_page(request, 404, "There is no such dead letter", "They are kept 30 days. Look among all dead letters.")


routes = [
    Route("/dead-letters", show_groups, methods=["GET"]),
    Route("/dead-letters/all", show_list, methods=["GET"]),
    Route("/dead-letters/redrive", redrive, methods=["POST"]),
    Route("/dead-letters/letter/{id}", show_letter, methods=["GET"]),
]
