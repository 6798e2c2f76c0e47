"""Lists conversations, the one with the newest message first, page by page.

`activity` has a row for each message; a row stands for its conversation where the conversation has nothing newer. So nothing is ever moved
or deleted when a conversation goes on, and a page reads few rows beyond those it shows. Every read is bounded, and what is asked about
several tenants, shards or conversations is asked in one statement: a page is half a dozen of them, however many there are.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from infra.cassandra.aliases import conversation_of_key
from infra.cassandra.history import Conversation, conversation_of
from infra.cassandra.reading import EVERY_TENANT, PAGE_MAX, PARTITIONS_AT_ONCE, CursorError, in_parts, newest_row
from infra.cassandra.rows import BUCKET_MS, DAY_MS, HISTORY_PART, SHARDS
from infra.cassandra.session import Cassandra, Row

_TENANTS_MAX = 100
_DAYS_AT_ONCE = 20
_SCAN_ROWS = 200
_SCAN_ROWS_FIRST = 25
_SCANNED_MAX = 5_000
_CONTACTS_MAX = 100
_BUCKETS_LOOKED_AT = 2

_SELECT_TENANTS = "SELECT tenant FROM @.history_tenants WHERE part = ? LIMIT ?"
_SELECT_DAYS = "SELECT tenant, day, shard FROM @.active_days WHERE tenant IN ? AND day <= ? PER PARTITION LIMIT ?"
_SELECT_ACTIVITY = (
    "SELECT tenant, shard, time_ms, conversation FROM @.activity WHERE tenant IN ? AND day = ? AND shard IN ? "
    "AND (time_ms, conversation) < (?, ?) PER PARTITION LIMIT ?"
)
_SELECT_JOINED = "SELECT alias, joined FROM @.aliases WHERE alias IN ?"
_SELECT_BUCKETS = "SELECT conversation, bucket FROM @.conversation_buckets WHERE conversation IN ? AND tenant = ? PER PARTITION LIMIT ?"
_SELECT_NEWEST = (
    "SELECT tenant, conversation, time_ms, direction, type, text FROM @.messages WHERE tenant = ? AND conversation IN ? AND bucket = ? "
    "PER PARTITION LIMIT 1"
)
_SELECT_CONTACT = "SELECT tenant, conversation FROM @.contacts WHERE contact = ?"


class _Place(NamedTuple):
    """A moment of a conversation, in the order in which they are listed."""

    time_ms: int
    conversation: str


class _Activity(NamedTuple):
    """Somebody said something: when, in which conversation, and with which tenant."""

    time_ms: int
    conversation: str
    tenant: str

    @property
    def place(self) -> _Place:
        return _Place(self.time_ms, self.conversation)


# Above every time that a row may have (see history_rows).
_NEWEST = _Place(1 << 62, "")


class ConversationPage(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations, newest first; `before` asks for the next page, None on the last one."""

    conversations: list[Conversation]
    before: str | None


async def read_conversations(cassandra: Cassandra, *, tenant: str, before: str | None = None, limit: int = 100) -> ConversationPage:
    """Return a page of the conversations of a tenant, or of all with EVERY_TENANT.

    A page may be short, or empty, and still have a `before`: so much was looked at. Raises CursorError for a `before` that is none,
    CassandraAwayError when the database does not answer.
    """
    cursor = _read_cursor(before) if before else _NEWEST
    limit = max(1, min(limit, PAGE_MAX))
    tenants = [tenant]
    if tenant == EVERY_TENANT:
        tenants = [row["tenant"] for row in await cassandra.execute(_SELECT_TENANTS, (HISTORY_PART, _TENANTS_MAX))]
    rows: list[Row] = []
    places: list[_Place] = []
    rest: _Place | None = None
    scanned = 0
    seen: set[tuple[str, str]] = set()
    async with aclosing(_activity(cassandra, tenants, cursor)) as chunks:
        async for chunk in chunks:
            scanned += len(chunk)
            new = _first_of_each(chunk, seen)
            while new and len(rows) <= limit:
                # One more than the page has, to know whether there is another page.
                some, new = new[: limit + 1], new[limit + 1 :]
                for each, row in await _standing(cassandra, some):
                    places.append(each.place)
                    rows.append(row)
            if len(rows) > limit or scanned >= _SCANNED_MAX:
                rest = places[limit - 1] if len(rows) > limit else chunk[-1].place
                break
    return ConversationPage(
        conversations=[conversation_of(row) for row in rows[:limit]],
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


def _read_cursor(before: str) -> _Place:
    time_ms, _, conversation = before.partition(".")
    if not time_ms.isascii() or not time_ms.isdigit() or int(time_ms) >= _NEWEST.time_ms or not conversation:
        raise CursorError(f"{before[:60]!r} is no `before` that a page gave out")
    return _Place(int(time_ms), conversation)


async def _standing(cassandra: Cassandra, activity: Sequence[_Activity]) -> list[tuple[_Activity, Row]]:
    """Return what of this activity stands for its conversation, with the newest row; others have something newer further up.

    What was said under a key that belongs to another conversation by now is part of that one.
    """
    buckets: dict[str, dict[str, int]] = defaultdict(dict)
    for each in activity:
        buckets[each.tenant][each.conversation] = each.time_ms // BUCKET_MS
    # Few keys belong to another conversation: their rows are read all the same, for that takes no longer.
    joined, found = await asyncio.gather(
        _joined(cassandra, {each.conversation for each in activity}),
        asyncio.gather(*(_newest_rows(cassandra, tenant, of_tenant) for tenant, of_tenant in buckets.items())),
    )
    newest = {(row["tenant"], row["conversation"]): row for rows in found for row in rows}
    pairs = ((each, newest.get((each.tenant, each.conversation))) for each in activity if each.conversation not in joined)
    return [(each, row) for each, row in pairs if row is not None and row["time_ms"] <= each.time_ms]


async def _joined(cassandra: Cassandra, keys: Collection[str]) -> set[str]:
    """Return those of the keys whose messages are part of another conversation by now."""
    found = await asyncio.gather(*(cassandra.execute(_SELECT_JOINED, (some,)) for some in in_parts(keys)))
    return {row["alias"] for rows in found for row in rows if row["joined"] not in (None, row["alias"])}


async def _newest_rows(cassandra: Cassandra, tenant: str, active_in: Mapping[str, int]) -> list[Row]:
    """Return the newest row of each of a tenant's conversations that has any; each was active in a bucket that is known already."""
    parts = in_parts(active_in)
    found = await asyncio.gather(*(_newest_of_some(cassandra, tenant, {each: active_in[each] for each in some}) for some in parts))
    return [row for rows in found for row in rows]


async def _newest_of_some(cassandra: Cassandra, tenant: str, active_in: Mapping[str, int]) -> list[Row]:
    # Most have nothing newer than their activity: so its bucket is read at once, while the index tells whether there is a later one.
    index, looked = await asyncio.gather(
        cassandra.execute(_SELECT_BUCKETS, (list(active_in), tenant, _BUCKETS_LOOKED_AT)),
        _newest_in(cassandra, tenant, active_in.items()),
    )
    buckets: dict[str, list[int]] = defaultdict(list)
    for row in index:
        buckets[row["conversation"]].append(row["bucket"])
    # The index is written first: for a moment a bucket may be there and its message not. Then the one before has the newest.
    found: dict[str, Row] = {}
    for number in range(_BUCKETS_LOOKED_AT):
        wanted = {(conversation, of[number]) for conversation, of in buckets.items() if conversation not in found and number < len(of)}
        looked |= await _newest_in(cassandra, tenant, wanted - looked.keys())
        found |= {conversation: newest for conversation, bucket in wanted if (newest := looked[conversation, bucket]) is not None}
    return list(found.values())


async def _newest_in(cassandra: Cassandra, tenant: str, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], Row | None]:
    """Return the newest row of each conversation in a bucket of it; None where there is none."""
    conversations: dict[int, list[str]] = defaultdict(list)
    for conversation, bucket in places:
        conversations[bucket].append(conversation)
    reads = (cassandra.execute(_SELECT_NEWEST, (tenant, keys, bucket)) for bucket, keys in conversations.items())
    found: dict[tuple[str, int], Row | None] = dict.fromkeys(places)
    for bucket, rows in zip(conversations, await asyncio.gather(*reads), strict=True):
        found.update({(row["conversation"], bucket): row for row in rows})
    return found


def _first_of_each(chunk: Sequence[_Activity], seen: set[tuple[str, str]]) -> list[_Activity]:
    """Return the newest activity of each conversation that was not seen yet, and note it as seen."""
    new: list[_Activity] = []
    for each in chunk:
        if (each.tenant, each.conversation) not in seen:
            seen.add((each.tenant, each.conversation))
            new.append(each)
    return new


async def _activity(cassandra: Cassandra, tenants: Sequence[str], cursor: _Place) -> AsyncGenerator[list[_Activity], None]:
    """Yield the activity of tenants below the cursor in chunks, newest first."""
    rows = min(_SCAN_ROWS, _SCAN_ROWS_FIRST)
    async with aclosing(_days(cassandra, tenants, min(cursor.time_ms // DAY_MS, (1 << 31) - 1))) as days:
        async for day, parts in days:
            below: _Place | None = cursor
            while below is not None:
                chunk, below = await _day_chunk(cassandra, day, parts, below, rows)
                # Few rows are enough where many conversations go on; behind a busy one it takes more.
                rows = min(_SCAN_ROWS, 2 * rows)
                if chunk:
                    yield chunk


async def _days(cassandra: Cassandra, tenants: Sequence[str], newest: int) -> AsyncGenerator[tuple[int, dict[str, set[int]]], None]:
    """Yield each day on which any of the tenants was active, newest first, with the shards of each tenant."""
    limit = _DAYS_AT_ONCE * SHARDS
    while True:
        groups = in_parts(tenants)
        found = await asyncio.gather(*(cassandra.execute(_SELECT_DAYS, (some, newest, limit)) for some in groups))
        days: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        last: dict[str, list[int]] = defaultdict(list)
        for row in (row for page in found for row in page):
            days[row["day"]][row["tenant"]].add(row["shard"])
            last[row["tenant"]].append(row["day"])
        # Of a tenant that has more days, the last one that came may lack shards: it comes again with the next ones.
        floor = max((min(of_tenant) for of_tenant in last.values() if len(of_tenant) == limit), default=None)
        for day in sorted(days, reverse=True):
            if floor is None or day > floor:
                yield day, days[day]
        if floor is None:
            return
        newest = floor


async def _day_chunk(
    cassandra: Cassandra, day: int, parts: dict[str, set[int]], below: _Place, rows: int
) -> tuple[list[_Activity], _Place | None]:
    """Return activity of one day below a point, newest first, `rows` of each shard, and the point below which there is more."""
    tenants, shards = list(parts), sorted(set().union(*parts.values()))
    groups = in_parts(tenants, max(1, PARTITIONS_AT_ONCE // len(shards)))
    found = await asyncio.gather(*(cassandra.execute(_SELECT_ACTIVITY, (some, day, shards, *below, rows)) for some in groups))
    pages: dict[tuple[str, int], list[_Activity]] = defaultdict(list)
    for row in (row for page in found for row in page):
        pages[row["tenant"], row["shard"]].append(_Activity(row["time_ms"], row["conversation"], row["tenant"]))
    # What lies below the point up to which everybody's rows were read cannot be put in order yet.
    floor = max((page[-1].place for page in pages.values() if len(page) == rows), default=None)
    chunk = sorted((each for page in pages.values() for each in page if floor is None or each.place >= floor), reverse=True)
    return chunk, floor
