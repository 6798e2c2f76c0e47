"""/v1/dead-letters: what could not be handled, listed, shown and redriven, as a tenant may see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.cassandra.dead_letters import (
    STATES,
    Entry,
    Filter,
    Group,
    read_dead_letter,
    read_dead_letters,
    read_groups,
    read_stack,
)
from infra.cassandra.session import Cassandra
from infra.clock import iso
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.log_reader import log_reader
from infra.kafka.producer import ProduceError
from infra.settings import Settings
from ingress.api_conversations import ParameterError, answered, before_of, limit_of, tenant_of
from ingress.audit import audit_of
from ingress.body import BodyTooLargeError, BodyTooSlowError, read_body
from ingress.dead_letters_to_topics import Planned, Redriver, RefusedRedriveError, read_after
from ingress.problems import problem
from ingress.takes import BEFORE, DRY_RUN, LIMIT, Parameter, takes
from schemas.topics import DEAD_LETTERS

_ORIGINAL_LENGTH_MAX = 64 * 1024
_REDRIVEN_MAX = 50
_TRUE = frozenset({"true", "1"})


class RedriveRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which letters to redrive: those of a cause, or all; `after` as the call before said."""

    cause: str = ""
    all: bool = False
    stage: str = ""
    conversation: str = ""
    dry_run: bool = False
    after: str = ""
    limit: int = _REDRIVEN_MAX


class _Listed(msgspec.Struct):
    dead_letters: list[dict[str, Any]]
    before: str | None


class _Grouped(msgspec.Struct):
    groups: list[Group]
    before: str | None


class Original(NamedTuple):
    """A letter's original bytes as text, at most 64 KiB of them; `missing` says why they are not there."""

    text: str
    missing: str
    is_cut: bool


async def read_original(settings: Settings, entry: Entry) -> Original:
    """Return the original bytes of a letter from the log."""
    try:
        async with log_reader(settings, DEAD_LETTERS) as reader:
            record = await reader.read(entry.letter_partition, entry.letter_offset)
    except KafkaUnreachableError as error:
        return Original("", str(error), is_cut=False)
    if record is None:
        return Original("", f"The log has its bytes no more: [{DEAD_LETTERS.name}] is kept 35 days.", is_cut=False)
    text = record.value[:_ORIGINAL_LENGTH_MAX].decode("utf-8", "backslashreplace")
    return Original(text, "", is_cut=entry.size > _ORIGINAL_LENGTH_MAX)


_WHICH = {
    "cause": Parameter("why it could not be handled"),
    "stage": Parameter("where"),
    "conversation": Parameter("of one conversation"),
    "state": Parameter("whether it was redriven", {"type": "string", "enum": list(STATES)}),
}


@takes(query={"group": Parameter("count them instead", {"type": "string", "enum": ["cause"]}), "before": BEFORE, "limit": LIMIT, **_WHICH})
async def list_dead_letters(request: Request) -> Response:
    """Answer a page of dead letters, newest first; with `group=cause` how many there are of each stage and cause."""

    async def read(cassandra: Cassandra) -> Response:
        wanted, tenant, before = _filter(request), tenant_of(request), before_of(request)
        group = request.query_params.get("group")
        if group is not None:
            if group != "cause":
                raise ParameterError("`group` must be cause")
            groups, cursor = await read_groups(cassandra, tenant=tenant, wanted=wanted, before=before)
            return _json(_Grouped(groups, cursor))
        page = await read_dead_letters(cassandra, tenant=tenant, wanted=wanted, before=before, limit=limit_of(request))
        return _json(_Listed([_shown(entry) for entry in page.entries], page.cursor))

    return await answered(request, read)


async def show_dead_letter(request: Request) -> Response:
    """Answer all that is known of one: with its stack, and the original bytes as text (at most 64 KiB) while the log has them."""

    async def read(cassandra: Cassandra) -> Response:
        entry = await read_dead_letter(cassandra, tenant=tenant_of(request), letter=request.path_params["id"])
        if entry is None:
            return _missing()
        original = await read_original(request.app.state.settings, entry)
        stack = await read_stack(cassandra, entry.id)
        shown = _shown(entry) | {"stack": stack, "original": original.text, "original_missing": original.missing}
        return _json(shown | {"original_cut": original.is_cut})

    return await answered(request, read)


@takes(query={"dry_run": DRY_RUN, "again": Parameter("also one that was redriven", {"type": "string", "enum": ["true", "1"]})})
async def redrive_one(request: Request) -> Response:
    """Redrive one: 202, or 200 with `dry_run=true`; 404 for an unknown id, 409 for what must not be redriven (`again=true`: once more)."""

    async def redrive(cassandra: Cassandra) -> Response:
        entry = await read_dead_letter(cassandra, tenant=tenant_of(request), letter=request.path_params["id"])
        if entry is None:
            return _missing()
        dry_run = _is_true(request, "dry_run")
        async with redriver_of(request, cassandra) as redriver:
            planned = await redriver.redrive(entry, again=_is_true(request, "again"), dry_run=dry_run)
        return JSONResponse(_done(entry, planned) | {"redriven": not dry_run}, status_code=200 if dry_run else 202)

    return await _redriving(request, redrive)


@takes(query={"dry_run": DRY_RUN}, body=RedriveRequest)
async def redrive_many(request: Request) -> Response:
    """Redrive a page of the open letters of a cause, or of all, oldest first; `after` of the answer asks for the next page.

    What fails again while this goes on is a new letter, and not among those meant by the first call.
    """

    async def redrive(cassandra: Cassandra) -> Response:
        bulk = await _bulk(request)
        wanted = Filter(cause=bulk.cause, stage=bulk.stage, conversation=bulk.conversation)
        limit = min(bulk.limit, _REDRIVEN_MAX)
        read_after(bulk.after, 0)
        async with redriver_of(request, cassandra) as redriver:
            page = await redriver.redrive_page(
                tenant=tenant_of(request), wanted=wanted, after=bulk.after, limit=limit, dry_run=bulk.dry_run
            )
        done = [_done(entry, planned) for entry, planned in page.done]
        refused = [{"id": entry.id, "detail": why_not} for entry, why_not in page.refused]
        return _json({"redriven": not bulk.dry_run, "dead_letters": done, "refused": refused, "after": page.after})

    return await _redriving(request, redrive)


async def _redriving(request: Request, redrive: Any) -> Response:
    try:
        return await answered(request, redrive)
    except RefusedRedriveError as error:
        return problem(409, "Not redriven", str(error))
    except (ProduceError, KafkaUnreachableError) as error:
        detail = f"The log does not answer ({error}); ask again: what was redriven already is not redriven a second time."
        return problem(503, "Not redriven", detail, {"Retry-After": "5"})


@asynccontextmanager
async def redriver_of(request: Request, cassandra: Cassandra) -> AsyncIterator[Redriver]:
    """Yield what redrives for the caller of a request; KafkaUnreachableError when no broker answers."""
    state = request.app.state
    async with log_reader(state.settings, DEAD_LETTERS) as reader:
        yield Redriver(cassandra=cassandra, producer=state.producer, reader=reader, clock=state.clock, audit=audit_of(request))


async def _bulk(request: Request) -> RedriveRequest:
    try:
        bulk = msgspec.json.decode(await read_body(request), type=RedriveRequest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, BodyTooLargeError, BodyTooSlowError) as error:
        raise ParameterError(f"The body is no request to redrive ({str(error) or type(error).__name__})") from None
    if bool(bulk.cause) == bulk.all:
        raise ParameterError('Say which ones: {"cause": "..."} or {"all": true}')
    if bulk.limit < 1:
        raise ParameterError("`limit` must be a number from 1 on")
    if _is_true(request, "dry_run"):
        return msgspec.structs.replace(bulk, dry_run=True)
    return bulk


def _filter(request: Request) -> Filter:
    query = request.query_params
    state = query.get("state", "")
    if state not in ("", *STATES):
        raise ParameterError(f"`state` must be {' or '.join(STATES)}")
    return Filter(cause=query.get("cause", ""), stage=query.get("stage", ""), conversation=query.get("conversation", ""), state=state)


def _is_true(request: Request, name: str) -> bool:
    return request.query_params.get(name) in _TRUE


def _shown(entry: Entry) -> dict[str, Any]:
    """Return a letter as it is shown: times in ISO 8601, and whether it is open."""
    shown = msgspec.to_builtins(entry) | {"state": entry.state, "at": iso(entry.at_ms)}
    shown["redriven_at"] = iso(entry.redriven_at_ms) if entry.redriven_at_ms else None
    shown["letter"] = {"topic": DEAD_LETTERS.name, "partition": shown.pop("letter_partition"), "offset": shown.pop("letter_offset")}
    del shown["at_ms"], shown["redriven_at_ms"]
    return dict(shown)


def _done(entry: Entry, planned: Planned) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": iso(entry.at_ms),
        "stage": entry.stage,
        "cause": entry.cause,
        "conversation": entry.conversation,
        "offset": entry.offset,
        "topic": planned.topic,
        "resent_as": planned.resend.id if planned.resend is not None else "",
    }


def _missing() -> Response:
    return problem(404, "No such dead letter", "List those there are with GET /v1/dead-letters; they are kept 30 days.")


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json", headers={"Cache-Control": "no-store"})


routes = [
    Route("/v1/dead-letters", list_dead_letters, methods=["GET"]),
    Route("/v1/dead-letters/redrive", redrive_many, methods=["POST"]),
    Route("/v1/dead-letters/{id}", show_dead_letter, methods=["GET"]),
    Route("/v1/dead-letters/{id}/redrive", redrive_one, methods=["POST"]),
]
