"""Reads sends back by their ids, and lists those of which nobody knows whether they arrived.

A send is settled when any record ever named a platform id for it, so statuses settle it in any order, twice, and days later. The list is an
index of what was recorded as unknown, each entry checked against what is known of its send now. Every read is bounded.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from infra.cassandra.reading import EVERY_TENANT, PAGE_MAX, CursorError, platform_ids_of, time_of_send
from infra.cassandra.rows import BUCKET_MS, DAY_MS
from infra.cassandra.rows import Row as RowToWrite
from infra.cassandra.session import Cassandra, Row
from infra.clock import iso

RESEND = "resend"
"""The step of a send that repeats another one on demand; its cause is that other one's id."""

UNKNOWN = "unknown"

_DAYS_MAX = 100_000
_SCAN_ROWS = 200
_SCANNED_MAX = 5_000
_SIDE_BY_SIDE = 100

_SELECT_DAYS = "SELECT day, tenant FROM @.unknown_send_days WHERE part = ? AND day <= ? LIMIT ?"
_SELECT_PLACES = "SELECT at_ms, id FROM @.unknown_sends WHERE tenant = ? AND day = ? AND (at_ms, id) < (?, ?) LIMIT ?"
_SELECT_SEND = (
    "SELECT id, tenant, conversation, channel, account, created_at_ms, sent_created_at_ms, priority, recipient, recipient_kind, agent, "
    "outcome, platform_id, at_ms, attempts, error FROM @.sends WHERE id = ?"
)
_SELECT_RESENT = "SELECT id FROM @.resends WHERE send = ?"
_MESSAGE = "FROM @.messages WHERE tenant = ? AND conversation = ? AND bucket = ? AND time_ms = ? AND id = ?"
_SELECT_TEXT = f"SELECT text {_MESSAGE}"
_SELECT_CONTENT = f"SELECT payload, raw_topic, raw_partition, raw_offset {_MESSAGE}"


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a send; times are milliseconds since 1970. `outcome` is empty while there is none, `resent_as` if it was not."""

    id: str
    tenant: str
    conversation: str
    channel: str
    account: str
    to: str
    to_kind: str
    priority: str
    agent: str
    outcome: str
    attempts: int
    at_ms: int
    planned_ms: int
    error: str
    platform_ids: list[str]
    resent_as: str

    @property
    def is_open(self) -> bool:
        """Whether nobody knows what became of it, and nothing was done about that."""
        return self.outcome == UNKNOWN and not self.platform_ids and not self.resent_as


class Content(NamedTuple):
    """A send's message object as the platform takes it, and where the record stands that led to it (topic, partition, offset)."""

    payload: bytes
    raw: tuple[str, int, int] | None


class UnknownSend(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the list; `at` is when it was given up waiting for a status."""

    id: str
    conversation: str
    tenant: str
    account: str
    to: str
    outcome: str
    attempts: int
    at: str
    error: str
    text: str
    settled: bool


class UnknownSendPage(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown sends, newest first; `before` asks for the next page, None on the last one."""

    sends: list[UnknownSend]
    before: str | None


class _Place(NamedTuple):
    """Where an entry stands in the list."""

    at_ms: int
    id: str


# Above every time that a row may have.
_NEWEST = _Place(1 << 62, "")


async def read_send(cassandra: Cassandra, *, tenant: str, send: str) -> Send | None:
    """Return what is known of a send as `tenant` (or EVERY_TENANT) may see it; None if history has none of this id.

    Raises CassandraAwayError when the database does not answer.
    """
    if not send:
        return None
    rows, resent = await asyncio.gather(cassandra.execute(_SELECT_SEND, (send,)), cassandra.execute(_SELECT_RESENT, (send,)))
    if not rows or tenant not in (EVERY_TENANT, rows[0]["tenant"]):
        return None
    named = await platform_ids_of(cassandra, [(rows[0]["conversation"], send)])
    return _send_of(rows[0], named.get(send, ()), resent)


async def read_content(cassandra: Cassandra, send: Send) -> Content | None:
    """Return what a send said; None if history has not written it yet. Raises CassandraAwayError when the database does not answer."""
    rows = await cassandra.execute(_SELECT_CONTENT, _message_key(send))
    if not rows or not rows[0]["payload"]:
        return None
    row = rows[0]
    raw = None if row["raw_offset"] is None else (row["raw_topic"], row["raw_partition"], row["raw_offset"])
    return Content(bytes(row["payload"]), raw)


async def read_unknown_sends(cassandra: Cassandra, *, tenant: str, before: str | None = None, limit: int = 100) -> UnknownSendPage:
    """Return a page of the sends of a tenant, or of all with EVERY_TENANT, that are unknown and neither settled nor sent again.

    A page may be short, or empty, and still have a `before`: so much was looked at. Raises CursorError for a `before` that is none,
    CassandraAwayError when the database does not answer.
    """
    cursor = _read_cursor(before) if before else _NEWEST
    limit = max(1, min(limit, PAGE_MAX))
    found: list[Send] = []
    scanned = 0
    async with aclosing(_places(cassandra, tenant, cursor)) as pieces:
        async for piece in pieces:
            found += await _open_ones(cassandra, tenant, piece)
            scanned += len(piece)
            if len(found) > limit:
                last = found[limit - 1]
                return await _page(cassandra, found[:limit], _Place(last.at_ms, last.id))
            if scanned >= _SCANNED_MAX:
                return await _page(cassandra, found, piece[-1])
    return await _page(cassandra, found, None)


def resend_row(*, send: str, resent_as: str, time_ms: int) -> RowToWrite:
    """Return the row that says under which id a send was sent again."""
    return RowToWrite("resends", {"send": send, "id": resent_as}, 1000 * time_ms)


def _send_of(row: Row, told: Sequence[str], resent: Sequence[Row]) -> Send:
    return Send(
        id=row["id"],
        tenant=row["tenant"],
        conversation=row["conversation"],
        channel=row["channel"],
        account=row["account"],
        to=row["recipient"] or "",
        to_kind=row["recipient_kind"] or "",
        priority=row["priority"] or "",
        agent=row["agent"] or "",
        outcome=row["outcome"] or "",
        attempts=row["attempts"] or 0,
        at_ms=row["at_ms"] or 0,
        planned_ms=time_of_send(row),
        error=row["error"] or "",
        platform_ids=list(dict.fromkeys([*([row["platform_id"]] if row["platform_id"] else []), *told])),
        resent_as=resent[0]["id"] if resent else "",
    )


async def _open_ones(cassandra: Cassandra, tenant: str, places: Sequence[_Place]) -> list[Send]:
    """Return what is still open of these; of an id that was recorded twice, the place of the record that counts is taken."""
    sends = await asyncio.gather(*(read_send(cassandra, tenant=tenant, send=place.id) for place in places))
    pairs = zip(places, sends, strict=True)
    return [send for place, send in pairs if send is not None and send.is_open and send.at_ms == place.at_ms]


async def _page(cassandra: Cassandra, sends: Sequence[Send], rest: _Place | None) -> UnknownSendPage:
    texts = await asyncio.gather(*(cassandra.execute(_SELECT_TEXT, _message_key(send)) for send in sends))
    entries = [_entry(send, rows[0]["text"] or "" if rows else "") for send, rows in zip(sends, texts, strict=True)]
    return UnknownSendPage(sends=entries, before=None if rest is None else f"{rest.at_ms}.{rest.id}")


def _entry(send: Send, text: str) -> UnknownSend:
    return UnknownSend(
        id=send.id,
        conversation=send.conversation,
        tenant=send.tenant,
        account=send.account,
        to=send.to,
        outcome=send.outcome,
        attempts=send.attempts,
        at=iso(send.at_ms),
        error=send.error,
        text=text,
        settled=bool(send.platform_ids),
    )


def _message_key(send: Send) -> tuple[str, str, int, int, str]:
    return (send.tenant, send.conversation, send.planned_ms // BUCKET_MS, send.planned_ms, send.id)


def _read_cursor(before: str) -> _Place:
    at_ms, _, send = before.partition(".")
    if not at_ms.isascii() or not at_ms.isdigit() or int(at_ms[:20]) >= _NEWEST.at_ms or not send:
        raise CursorError(f"{before[:60]!r} is no `before` that a page gave out")
    return _Place(int(at_ms), send)


async def _places(cassandra: Cassandra, part: str, cursor: _Place) -> AsyncGenerator[list[_Place], None]:
    """Yield the index below the cursor in pieces, newest first."""
    tenants: dict[int, list[str]] = defaultdict(list)
    newest_day = min(cursor.at_ms // DAY_MS, (1 << 31) - 1)
    for row in await cassandra.execute(_SELECT_DAYS, (part, newest_day, _DAYS_MAX)):
        tenants[row["day"]].append(row["tenant"])
    for day in sorted(tenants, reverse=True):
        below: _Place | None = cursor
        while below is not None:
            chunk, below = await _day_chunk(cassandra, [(tenant, day) for tenant in tenants[day]], below)
            for start in range(0, len(chunk), _SIDE_BY_SIDE):
                yield chunk[start : start + _SIDE_BY_SIDE]


async def _day_chunk(cassandra: Cassandra, partitions: Sequence[tuple[str, int]], below: _Place) -> tuple[list[_Place], _Place | None]:
    """Return places of a day of several tenants below a point, newest first, and the point below which there is more."""
    pages = await asyncio.gather(*(cassandra.execute(_SELECT_PLACES, (*each, *below, _SCAN_ROWS)) for each in partitions))
    read = [[_Place(row["at_ms"], row["id"]) for row in page] for page in pages]
    floor = max((page[-1] for page in read if len(page) == _SCAN_ROWS), default=None)
    return sorted((each for page in read for each in page if floor is None or each >= floor), reverse=True), floor
