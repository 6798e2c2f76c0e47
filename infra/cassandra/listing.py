"""Lists conversations, the one with the newest message first, page by page.

`activity` has a row for each message; a row stands for its conversation where the conversation has nothing newer. So nothing is ever moved
or deleted when a conversation goes on, and a page reads few rows beyond those it shows. Every read is bounded.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from infra.cassandra.aliases import conversation_of_key
from infra.cassandra.history import Conversation, conversation_of
from infra.cassandra.reading import EVERY_TENANT, PAGE_MAX, CursorError, newest_row
from infra.cassandra.rows import DAY_MS, HISTORY_PART
from infra.cassandra.session import Cassandra, Row

_TENANTS_MAX = 100
_DAYS_MAX = 10_000
_SCAN_ROWS = 200
_SCANNED_MAX = 5_000
_CONTACTS_MAX = 100

_SELECT_TENANTS = "SELECT tenant FROM @.history_tenants WHERE part = ? LIMIT ?"
_SELECT_DAYS = "SELECT day, shard FROM @.active_days WHERE tenant = ? AND day <= ? LIMIT ?"
_SELECT_ACTIVITY = (
    "SELECT time_ms, conversation FROM @.activity WHERE tenant = ? AND day = ? AND shard = ? AND (time_ms, conversation) < (?, ?) LIMIT ?"
)
_SELECT_CONTACT = "SELECT tenant, conversation FROM @.contacts WHERE contact = ?"


class _Activity(NamedTuple):
    """Somebody said something: when, and in which conversation."""

    time_ms: int
    conversation: str


# Above every time that a row may have (see history_rows).
_NEWEST = _Activity(1 << 62, "")


class ConversationPage(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations, newest first; `before` asks for the next page, None on the last one."""

    conversations: list[Conversation]
    before: str | None


class _Found(NamedTuple):
    """What a tenant's activity gave: conversations with their newest row, and where to go on."""

    heads: list[tuple[_Activity, Row]]
    rest: _Activity | None


async def read_conversations(cassandra: Cassandra, *, tenant: str, before: str | None = None, limit: int = 100) -> ConversationPage:
    """Return a page of the conversations of a tenant, or of all with EVERY_TENANT.

    Raises CursorError for a `before` that is none, CassandraAwayError when the database does not answer.
    """
    cursor = _read_cursor(before) if before else _NEWEST
    limit = max(1, min(limit, PAGE_MAX))
    tenants = [tenant]
    if tenant == EVERY_TENANT:
        tenants = [row["tenant"] for row in await cassandra.execute(_SELECT_TENANTS, (HISTORY_PART, _TENANTS_MAX))]
    found = await asyncio.gather(*(_of_tenant(cassandra, each, cursor, limit) for each in tenants))
    # What lies below the point up to which everybody's rows were read cannot be put in order yet.
    floor = max((each.rest for each in found if each.rest is not None), default=None)
    heads = sorted((head for each in found for head in each.heads if floor is None or head[0] >= floor), key=lambda head: head[0])[::-1]
    rest = heads[limit - 1][0] if len(heads) > limit else floor
    return ConversationPage(
        conversations=[conversation_of(row) for _, row in heads[:limit]],
        before=None if rest is None else f"{rest.time_ms}.{rest.conversation}",
    )


async def find_conversations(cassandra: Cassandra, *, tenant: str, contact: str) -> ConversationPage:
    """Return the conversations of a phone number (with or without `+` and spaces) or a user id, newest first, at most 100.

    Raises CassandraAwayError when the database does not answer.
    """
    name = contact.strip()
    digits = "".join(character for character in name if character not in "+-() ")
    name = digits if digits.isdigit() else quote(name, safe="")
    query, values = _SELECT_CONTACT, [name]
    if tenant != EVERY_TENANT:
        query, values = f"{query} AND tenant = ?", [name, tenant]
    known = await cassandra.execute(f"{query} LIMIT {_CONTACTS_MAX}", values) if name else []
    keys = await asyncio.gather(*(conversation_of_key(cassandra, row["conversation"]) for row in known))
    owned = sorted({(row["tenant"], key) for row, key in zip(known, keys, strict=True)})
    rows = await asyncio.gather(*(newest_row(cassandra, tenant=owner, conversation=key) for owner, key in owned))
    heads = sorted((row for row in rows if row is not None), key=lambda row: int(row["time_ms"]), reverse=True)
    return ConversationPage(conversations=[conversation_of(row) for row in heads], before=None)


def _read_cursor(before: str) -> _Activity:
    time_ms, _, conversation = before.partition(".")
    if not time_ms.isascii() or not time_ms.isdigit() or int(time_ms) >= _NEWEST.time_ms or not conversation:
        raise CursorError(f"{before[:60]!r} is no `before` that a page gave out")
    return _Activity(int(time_ms), conversation)


async def _of_tenant(cassandra: Cassandra, tenant: str, cursor: _Activity, limit: int) -> _Found:
    heads: list[tuple[_Activity, Row]] = []
    seen: set[str] = set()
    scanned = 0
    async with aclosing(_activity(cassandra, tenant, cursor)) as chunks:
        async for chunk in chunks:
            scanned += len(chunk)
            new = _first_of_each(chunk, seen)
            while new:
                heads += await _standing(cassandra, tenant, new[: limit + 1])
                if len(heads) > limit:
                    return _Found(heads[:limit], heads[limit - 1][0])
                new = new[limit + 1 :]
            if scanned >= _SCANNED_MAX:
                return _Found(heads, chunk[-1])
    return _Found(heads, None)


async def _standing(cassandra: Cassandra, tenant: str, activity: Sequence[_Activity]) -> list[tuple[_Activity, Row]]:
    """Return what of this activity stands for its conversation, with the newest row; others have something newer further up.

    What was said under a key that belongs to another conversation by now is part of that one.
    """
    keys = await asyncio.gather(*(conversation_of_key(cassandra, each.conversation) for each in activity))
    activity = [each for each, key in zip(activity, keys, strict=True) if key == each.conversation]
    rows = await asyncio.gather(*(newest_row(cassandra, tenant=tenant, conversation=each.conversation) for each in activity))
    return [(each, row) for each, row in zip(activity, rows, strict=True) if row is not None and row["time_ms"] <= each.time_ms]


def _first_of_each(chunk: Sequence[_Activity], seen: set[str]) -> list[_Activity]:
    """Return the newest activity of each conversation that was not seen yet, and note it as seen."""
    new: list[_Activity] = []
    for each in chunk:
        if each.conversation not in seen:
            seen.add(each.conversation)
            new.append(each)
    return new


async def _activity(cassandra: Cassandra, tenant: str, cursor: _Activity) -> AsyncGenerator[list[_Activity], None]:
    """Yield a tenant's activity below the cursor in chunks, newest first."""
    shards: dict[int, list[int]] = defaultdict(list)
    newest_day = min(cursor.time_ms // DAY_MS, (1 << 31) - 1)
    for row in await cassandra.execute(_SELECT_DAYS, (tenant, newest_day, _DAYS_MAX)):
        shards[row["day"]].append(row["shard"])
    for day in sorted(shards, reverse=True):
        below: _Activity | None = cursor
        while below is not None:
            partitions = [(tenant, day, shard) for shard in shards[day]]
            chunk, below = await _day_chunk(cassandra, partitions, below)
            if chunk:
                yield chunk


async def _day_chunk(
    cassandra: Cassandra, partitions: Sequence[tuple[str, int, int]], below: _Activity
) -> tuple[list[_Activity], _Activity | None]:
    """Return activity of a day's shards below a point, newest first, and the point below which there is more."""
    pages = await asyncio.gather(*(cassandra.execute(_SELECT_ACTIVITY, (*each, *below, _SCAN_ROWS)) for each in partitions))
    read = [[_Activity(row["time_ms"], row["conversation"]) for row in page] for page in pages]
    floor = max((page[-1] for page in read if len(page) == _SCAN_ROWS), default=None)
    chunk = sorted((each for page in read for each in page if floor is None or each >= floor), reverse=True)
    return chunk, floor
