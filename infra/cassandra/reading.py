"""Reads messages back: a conversation newest first, page by page, and one send by its id.

Every read is bounded. A tenant's rows are in partitions of its own, so that it can only ever see what is its own.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from infra.cassandra.aliases import conversation_of_key, members_of
from infra.cassandra.history import Message, message_of
from infra.cassandra.rows import BUCKET_MS
from infra.cassandra.session import Cassandra, Row
from schemas.ids import account_of_key

EVERY_TENANT = "*"
PAGE_MAX = 1_000
"""The most messages or conversations of one page."""

PARTITIONS_AT_ONCE = 100
"""What one statement asks about: the coordinator asks as many partitions side by side."""

# One body may bring a thousand messages of one conversation, all of one millisecond.
_SAME_TIME_MAX = 10_000
_BUCKETS_MAX = 1_000
_STATUSES_MAX = 3_000
_PLATFORM_IDS_MAX = 10

_SELECT_BUCKETS = "SELECT tenant, bucket FROM @.conversation_buckets WHERE conversation = ?"
# All but the payload, which can be large and is not shown.
_COLUMNS = (
    "tenant, conversation, time_ms, id, direction, kind, type, text, channel, account, platform_id, platform_time_ms, received_at_ms, "
    "person_name, person_phone, person_user_id, raw_topic, raw_partition, raw_offset, log_topic, log_partition, log_offset, "
    "decided_at_ms, decision, reason, replies, waited_ms, worked_ms, agent, priority, recipient, cause, step, outcome, sent_at_ms, "
    "sent_partition, sent_offset, sent_waited_ms, sent_worked_ms, attempts, http_status, error_code, error"
)
_SELECT = f"SELECT {_COLUMNS} FROM @.messages WHERE tenant = ? AND conversation = ? AND bucket = ? AND"  # noqa: S608  # constants
_SELECT_PAGE = f"{_SELECT} time_ms <= ? LIMIT ?"
_SELECT_SAME_TIME = f"{_SELECT} time_ms = ? LIMIT ?"
_SELECT_ONE = f"{_SELECT} time_ms = ? AND id = ?"
_SELECT_SEND = "SELECT tenant, conversation, created_at_ms, sent_created_at_ms FROM @.sends WHERE id = ?"
_SELECT_STATUSES = (
    "SELECT platform_id, participant, status, at_ms, error_code, error, raw_topic, raw_partition, raw_offset "  # noqa: S608  # a constant
    f"FROM @.statuses WHERE channel = ? AND platform_id IN ? PER PARTITION LIMIT {_STATUSES_MAX}"
)
_SELECT_PLATFORM_IDS = (
    "SELECT send, platform_id FROM @.platform_ids "  # noqa: S608  # a constant
    f"WHERE account = ? AND send IN ? PER PARTITION LIMIT {_PLATFORM_IDS_MAX}"
)
# Of before accounts were told apart.
_SELECT_OLD_PLATFORM_IDS = (
    "SELECT send, platform_id FROM @.send_platform_ids "  # noqa: S608  # a constant
    f"WHERE send IN ? PER PARTITION LIMIT {_PLATFORM_IDS_MAX}"
)


class CursorError(ValueError):
    """A `before` that no page gave out."""


@dataclass(frozen=True, order=True, slots=True)
class _Place:
    """Where a message stands in its conversation; later ones are greater. What came in stands before what answers it."""

    time_ms: int
    outgoing: int
    offset: int
    id: str

    @classmethod
    def of(cls, row: Row) -> "_Place":
        return cls(row["time_ms"], int(row["kind"] == "send"), row["log_offset"] or 0, row["id"])

    @classmethod
    def read(cls, cursor: str) -> "_Place":
        try:
            time_ms, outgoing, offset, message_id = cursor.split(".", 3)
            place = cls(int(time_ms), int(outgoing), int(offset), message_id)
        except ValueError:
            raise CursorError(f"{cursor[:60]!r} is no `before` that a page gave out") from None
        if not 0 <= place.time_ms < 1 << 62:
            raise CursorError(f"{cursor[:60]!r} is no `before` that a page gave out")
        return place

    def __str__(self) -> str:
        return f"{self.time_ms}.{self.outgoing}.{self.offset}.{self.id}"


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Messages newest first; `before` asks for the next page, None on the last one."""

    conversation: str
    messages: list[Message]
    before: str | None


async def read_messages(
    cassandra: Cassandra, *, tenant: str, conversation: str, before: str | None = None, limit: int = 100
) -> MessagePage | None:
    """Return a page of a conversation as `tenant` (or EVERY_TENANT) may see it; None if there is no such conversation for it.

    A key that was joined to another conversation is read as that one, and a conversation with all that was said under its other keys.
    Raises CursorError for a `before` that is none, CassandraAwayError when the database does not answer.
    """
    cursor = _Place.read(before) if before else None
    limit = max(1, min(limit, PAGE_MAX))
    conversation = await conversation_of_key(cassandra, conversation) if conversation else ""
    buckets = await _buckets_of_all(cassandra, tenant, await members_of(cassandra, conversation) if conversation else [])
    if not buckets:
        return None
    rows: list[Row] = []
    async with aclosing(_newest_first(cassandra, buckets, cursor, limit + 1)) as chunks:
        async for chunk in chunks:
            rows += await _without_ghosts(cassandra, chunk)
            if len(rows) > limit:
                break
    shown = rows[:limit]
    messages = await _messages(cassandra, shown)
    return MessagePage(conversation=conversation, messages=messages, before=str(_Place.of(shown[-1])) if len(rows) > limit else None)


async def read_message(cassandra: Cassandra, *, tenant: str, message_id: str) -> Message | None:
    """Return a send by its id as `tenant` (or EVERY_TENANT) may see it; None if history has none.

    Raises CassandraAwayError when the database does not answer.
    """
    sends = await cassandra.execute(_SELECT_SEND, (message_id,)) if message_id else []
    if not sends or tenant not in (EVERY_TENANT, sends[0]["tenant"]):
        return None
    send, time_ms = sends[0], time_of_send(sends[0])
    key = (send["tenant"], send["conversation"], time_ms // BUCKET_MS, time_ms, message_id)
    rows = await cassandra.execute(_SELECT_ONE, key)
    return (await _messages(cassandra, rows))[0] if rows else None


async def platform_ids_of(cassandra: Cassandra, sends: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return every platform id that an answer or a status ever named for sends, each given with its conversation.

    Of a send at most 10 of each table; more than one: it was sent twice.
    """
    by_account: dict[str, list[str]] = defaultdict(list)
    for conversation, send in sends:
        by_account[account_of_key(conversation)].append(send)
    new = [(_SELECT_PLATFORM_IDS, (account, some)) for account, its in by_account.items() for some in in_parts(its)]
    old = [(_SELECT_OLD_PLATFORM_IDS, (some,)) for some in in_parts([send for its in by_account.values() for send in its])]
    named: dict[str, dict[str, None]] = defaultdict(dict)
    for found in await asyncio.gather(*(cassandra.execute(*question) for question in (*new, *old))):
        for each in found:
            named[each["send"]][each["platform_id"]] = None
    return {send: list(ids) for send, ids in named.items()}


def in_parts(names: Collection[str], size: int = PARTITIONS_AT_ONCE) -> list[list[str]]:
    """Return names in lists of at most `size`."""
    every = list(names)
    return [every[start : start + size] for start in range(0, len(every), size)]


def cursor_at(time_ms: int) -> str:
    """Return the `before` that asks for what was said up to and at a time, given in milliseconds since 1970."""
    return str(_Place(time_ms + 1, 0, 0, ""))


async def owners_of(cassandra: Cassandra, conversation: str) -> set[str]:
    """Return the tenants that have messages of a conversation; CassandraAwayError when the database does not answer."""
    return {tenant for _, tenants in await _buckets(cassandra, EVERY_TENANT, conversation) for tenant in tenants}


def time_of_send(send: Row) -> int:
    """Return the time, in milliseconds, under which the message of a row of `sends` is found: of the plan that left, else the first."""
    sent = send["sent_created_at_ms"]
    time_ms: int = send["created_at_ms"] if sent is None else sent
    return time_ms


async def newest_row(cassandra: Cassandra, *, tenant: str, conversation: str) -> Row | None:
    """Return the newest row of a conversation's messages with one tenant; None if it has none."""
    for bucket, _ in (await _buckets(cassandra, tenant, conversation))[:2]:
        rows = await cassandra.execute(_SELECT_PAGE, (tenant, conversation, bucket, (bucket + 1) * BUCKET_MS, 1))
        if rows:
            return rows[0]
    return None


async def _buckets(cassandra: Cassandra, tenant: str, conversation: str) -> list[tuple[int, list[str]]]:
    """Return the conversation's buckets, newest first, each with the tenants that have messages there and may be seen."""
    if not conversation:
        return []
    query, values = _SELECT_BUCKETS, [conversation]
    if tenant != EVERY_TENANT:
        query, values = f"{query} AND tenant = ?", [conversation, tenant]
    tenants: dict[int, list[str]] = defaultdict(list)
    for row in await cassandra.execute(f"{query} LIMIT {_BUCKETS_MAX}", values):
        tenants[row["bucket"]].append(row["tenant"])
    return sorted(tenants.items(), reverse=True)


async def _buckets_of_all(cassandra: Cassandra, tenant: str, keys: Sequence[str]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return the buckets of all keys of a conversation, newest first, each with the tenants and keys that have messages there."""
    both: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for key, buckets in zip(keys, await asyncio.gather(*(_buckets(cassandra, tenant, key) for key in keys)), strict=True):
        for bucket, tenants in buckets:
            both[bucket] += [(each, key) for each in tenants]
    return sorted(both.items(), reverse=True)


async def _newest_first(
    cassandra: Cassandra, buckets: Sequence[tuple[int, list[tuple[str, str]]]], cursor: _Place | None, size: int
) -> AsyncGenerator[list[Row], None]:
    """Yield the rows below the cursor in chunks, newest first; rows of one millisecond are never torn apart."""
    for bucket, owners in buckets:
        below: int | None = (bucket + 1) * BUCKET_MS - 1
        if cursor is not None:
            below = min((bucket + 1) * BUCKET_MS - 1, cursor.time_ms)
        while below is not None and below >= bucket * BUCKET_MS:
            rows, below = await _chunk(cassandra, [(tenant, key, bucket) for tenant, key in owners], below, size)
            if cursor is not None:
                rows = [row for row in rows if _Place.of(row) < cursor]
            yield sorted(rows, key=_Place.of, reverse=True)


async def _chunk(cassandra: Cassandra, partitions: Sequence[tuple[str, str, int]], below: int, size: int) -> tuple[list[Row], int | None]:
    """Return rows of partitions of one bucket at or below a time, and the time at or below which there may be more."""
    pages = await asyncio.gather(*(cassandra.execute(_SELECT_PAGE, (*each, below, size)) for each in partitions))
    full = [page for page in pages if len(page) == size]
    if not full:
        return [row for page in pages for row in page], None
    last: int = max(page[-1]["time_ms"] for page in full)
    same = await asyncio.gather(*(cassandra.execute(_SELECT_SAME_TIME, (*each, last, _SAME_TIME_MAX)) for each in partitions))
    newer = [row for page in pages for row in page if row["time_ms"] > last]
    return newer + [row for page in same for row in page], last - 1


async def _without_ghosts(cassandra: Cassandra, rows: Sequence[Row]) -> list[Row]:
    """Drop what a second run planned anew: of one id only the send whose time counts is shown.

    A rerun makes the same id at another time, so both plans have a row. The one that left has an outcome; only the others are looked up.
    """
    counts = Counter(row["id"] for row in rows if row["kind"] == "send")
    doubted = [row for row in rows if row["kind"] == "send" and (row["outcome"] is None or counts[row["id"]] > 1)]
    ids = sorted({row["id"] for row in doubted})
    found = await asyncio.gather(*(cassandra.execute(_SELECT_SEND, (each,)) for each in ids))
    times = {each: time_of_send(sends[0]) for each, sends in zip(ids, found, strict=True) if sends}
    ghosts = {(row["id"], row["time_ms"]) for row in doubted if times.get(row["id"], row["time_ms"]) != row["time_ms"]}
    return [row for row in rows if (row["id"], row["time_ms"]) not in ghosts]


async def _messages(cassandra: Cassandra, rows: Sequence[Row]) -> list[Message]:
    """Return the messages of some rows with what was told of them: two statements for all, not two for each that went out."""
    named = await platform_ids_of(cassandra, [(row["conversation"], row["id"]) for row in rows if row["kind"] == "send"])
    platform_ids = [list(dict.fromkeys([*([row["platform_id"]] if row["platform_id"] else []), *named.get(row["id"], ())])) for row in rows]
    wanted: dict[str, dict[str, None]] = defaultdict(dict)
    for row, ids in zip(rows, platform_ids, strict=True):
        if row["direction"] != "in":
            wanted[row["channel"]] |= dict.fromkeys(ids)
    parts = [(channel, some) for channel, ids in wanted.items() for some in in_parts(ids)]
    statuses: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for (channel, _), told in zip(parts, await asyncio.gather(*(cassandra.execute(_SELECT_STATUSES, part) for part in parts)), strict=True):
        for each in told:
            statuses[channel, each["platform_id"]].append(each)
    return [
        message_of(row, [status for each in ids for status in statuses.get((row["channel"], each), ())], ids)
        for row, ids in zip(rows, platform_ids, strict=True)
    ]
