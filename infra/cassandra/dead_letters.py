"""Dead letters in Cassandra: the rows of one, and reading them back by id, by time and by cause.

What is written of a letter comes from the letter, so it may be written any number of times; what is written of its redrives has columns of
its own. Every row goes 30 days after its failure, whenever it was written. The original bytes stay in the log.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from infra.cassandra.reading import EVERY_TENANT, PAGE_MAX, CursorError
from infra.cassandra.rows import DAY_MS, Value
from infra.cassandra.rows import Row as RowToWrite
from infra.cassandra.session import Cassandra, Row
from infra.clock import iso

KEPT_MS = 30 * DAY_MS
OPEN, REDRIVEN = "open", "redriven"
STATES = (OPEN, REDRIVEN)

_BUCKET_MS = 600_000
_BUCKETS_MAX = 10_000
_SCAN_ROWS = 500
_SCANNED_MAX = 20_000
_SIDE_BY_SIDE = 100

_SELECT_BUCKETS = f"SELECT bucket FROM @.processing_error_buckets WHERE part = ? LIMIT {_BUCKETS_MAX}"  # noqa: S608  # a constant
_INDEX = "SELECT at_ms, id, cause, stage, conversation, redriven_at_ms FROM @.processing_errors_by_time WHERE part = ? AND bucket = ?"
_SELECT_BELOW = f"{_INDEX} AND (at_ms, id) < (?, ?) LIMIT ?"
_SELECT_ABOVE = f"{_INDEX} AND (at_ms, id) > (?, ?) ORDER BY at_ms ASC, id ASC LIMIT ?"
_COLUMNS = (
    "id, tenant, conversation, stage, cause, error, topic, partition, offset, attempts, at_ms, letter_partition, letter_offset, size, "
    "redrive_of, retry_count, redriven_at_ms"
)
_SELECT = f"SELECT {_COLUMNS} FROM @.processing_errors WHERE id = ?"  # noqa: S608  # a constant
_SELECT_STACK = "SELECT stack FROM @.processing_errors WHERE id = ?"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as it is kept; `letter_*` is where it stands in [dead-letters], the others where the event stands that failed."""

    id: str
    tenant: str
    conversation: str
    stage: str
    cause: str
    error: str
    topic: str
    partition: int
    offset: int
    attempts: int
    at_ms: int
    letter_partition: int
    letter_offset: int
    size: int
    redrive_of: str = ""
    retry_count: int = 0
    redriven_at_ms: int = 0

    @property
    def state(self) -> str:
        """Whether it was redriven; one whose redrive failed again has a newer letter, which is open."""
        return REDRIVEN if self.redriven_at_ms else OPEN


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; empty: any."""

    cause: str = ""
    stage: str = ""
    conversation: str = ""
    state: str = ""


class Page(NamedTuple):
    """Dead letters, and the cursor behind which there are more; None: that was the last page."""

    entries: list[Entry]
    cursor: str | None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters of a stage have a cause, and since when until when."""

    cause: str
    stage: str
    open: int
    redriven: int
    first: str
    last: str


class Place(NamedTuple):
    """Where a letter stands in the order of time."""

    at_ms: int
    id: str

    def __str__(self) -> str:
        return f"{self.at_ms}.{self.id}"


_OLDEST, _NEWEST = Place(-1, ""), Place(1 << 62, "")


class _Indexed(NamedTuple):
    place: Place
    cause: str
    stage: str
    conversation: str
    redriven: bool

    def fits(self, wanted: Filter) -> bool:
        return (
            wanted.cause in ("", self.cause)
            and wanted.stage in ("", self.stage)
            and wanted.conversation in ("", self.conversation)
            and wanted.state in ("", REDRIVEN if self.redriven else OPEN)
        )


def dead_letter_rows(entry: Entry, *, stack: str, now_ms: int) -> list[RowToWrite]:
    """Return the rows that keep a letter, those first that lead to it; none if its time is over."""
    ttl_s = _ttl_s(entry, now_ms)
    if ttl_s <= 0:
        return []
    write_us, bucket = 1000 * entry.at_ms, entry.at_ms // _BUCKET_MS
    columns: dict[str, Value] = msgspec.structs.asdict(entry) | {"stack": stack}
    del columns["retry_count"], columns["redriven_at_ms"]
    indexed: dict[str, Value] = {"cause": entry.cause, "stage": entry.stage, "conversation": entry.conversation}
    return [
        *(RowToWrite("processing_error_buckets", {"part": part, "bucket": bucket}, write_us, ttl_s) for part in _parts(entry)),
        *(RowToWrite("processing_errors_by_time", key | indexed, write_us, ttl_s) for key in _index_keys(entry)),
        RowToWrite("processing_errors", columns, write_us, ttl_s),
    ]


def redriven_rows(entry: Entry, *, now_ms: int) -> list[RowToWrite]:
    """Return the rows that say that a letter was redriven once more."""
    ttl_s = _ttl_s(entry, now_ms)
    if ttl_s <= 0:
        return []
    redriven: dict[str, Value] = {"redriven_at_ms": now_ms}
    counted: dict[str, Value] = {"id": entry.id, "retry_count": entry.retry_count + 1, **redriven}
    return [
        RowToWrite("processing_errors", counted, 1000 * now_ms, ttl_s),
        *(RowToWrite("processing_errors_by_time", key | redriven, 1000 * now_ms, ttl_s) for key in _index_keys(entry)),
    ]


async def read_dead_letter(cassandra: Cassandra, *, tenant: str, letter: str) -> Entry | None:
    """Return a letter as `tenant` (or EVERY_TENANT) may see it; None if there is none of this id (any more).

    Raises CassandraAwayError when the database does not answer.
    """
    rows = await cassandra.execute(_SELECT, (letter,)) if letter else []
    if not rows or rows[0]["stage"] is None or tenant not in (EVERY_TENANT, rows[0]["tenant"]):
        return None
    return _entry(rows[0])


async def read_stack(cassandra: Cassandra, letter: str) -> str:
    """Return the stack of a letter, empty if it has none; CassandraAwayError when the database does not answer."""
    rows = await cassandra.execute(_SELECT_STACK, (letter,))
    return (rows[0]["stack"] or "") if rows else ""


async def read_dead_letters(
    cassandra: Cassandra, *, tenant: str, wanted: Filter, before: str | None = None, after: str | None = None, limit: int = 100
) -> Page:
    """Return a page of the letters of a tenant, or of all with EVERY_TENANT: newest first, or oldest first with `after` (empty: all).

    A page may be short, or empty, and still have a cursor: so much was looked at. Raises CursorError for a cursor that is none,
    CassandraAwayError when the database does not answer.
    """
    oldest_first = after is not None
    cursor = _read_cursor(after or "", _OLDEST) if oldest_first else _read_cursor(before or "", _NEWEST)
    limit = max(1, min(limit, PAGE_MAX))
    found: list[Entry] = []
    scanned = 0
    async with aclosing(_index(cassandra, tenant, cursor, oldest_first=oldest_first)) as pieces:
        async for piece in pieces:
            found += await _entries(cassandra, [each for each in piece if each.fits(wanted)], limit + 1 - len(found))
            scanned += len(piece)
            if len(found) > limit:
                return Page(found[:limit], str(Place(found[limit - 1].at_ms, found[limit - 1].id)))
            if scanned >= _SCANNED_MAX:
                return Page(found, str(piece[-1].place))
    return Page(found, None)


async def read_groups(cassandra: Cassandra, *, tenant: str, wanted: Filter, before: str | None = None) -> tuple[list[Group], str | None]:
    """Return how many letters there are of each stage and cause among the newest 20,000 below `before`, and the cursor for the rest.

    Raises CursorError for a cursor that is none, CassandraAwayError when the database does not answer.
    """
    groups: dict[tuple[str, str], list[_Indexed]] = {}
    seen: set[str] = set()
    cursor = None
    async with aclosing(_index(cassandra, tenant, _read_cursor(before or "", _NEWEST), oldest_first=False)) as pieces:
        async for piece in pieces:
            for each in piece:
                # A failure that was recorded twice, because its worker was killed, stands in the index twice.
                if each.fits(wanted) and each.place.id not in seen:
                    groups.setdefault((each.stage, each.cause), []).append(each)
                seen.add(each.place.id)
            if len(seen) >= _SCANNED_MAX:
                cursor = str(piece[-1].place)
                break
    counted = [_group(stage, cause, letters) for (stage, cause), letters in groups.items()]
    return sorted(counted, key=lambda group: (-group.open, -group.redriven, group.stage, group.cause)), cursor


def _group(stage: str, cause: str, letters: Sequence[_Indexed]) -> Group:
    redriven = sum(each.redriven for each in letters)
    first, last = letters[-1].place.at_ms, letters[0].place.at_ms
    return Group(cause=cause, stage=stage, open=len(letters) - redriven, redriven=redriven, first=iso(first), last=iso(last))


def _entry(row: Row) -> Entry:
    return Entry(**{name: value for name, value in row.items() if value is not None})


async def _entries(cassandra: Cassandra, indexed: Sequence[_Indexed], count: int) -> list[Entry]:
    """Return the letters of these places, at most `count`; of a failure that was recorded twice, only the place that counts is taken."""
    found: list[Entry] = []
    for start in range(0, len(indexed), _SIDE_BY_SIDE):
        piece = indexed[start : start + _SIDE_BY_SIDE]
        rows = await asyncio.gather(*(cassandra.execute(_SELECT, (each.place.id,)) for each in piece))
        pairs = zip(piece, rows, strict=True)
        found += [_entry(row[0]) for each, row in pairs if row and row[0]["at_ms"] == each.place.at_ms]
        if len(found) >= count:
            break
    return found[:count]


async def _index(cassandra: Cassandra, part: str, cursor: Place, *, oldest_first: bool) -> AsyncGenerator[list[_Indexed], None]:
    """Yield the index behind the cursor in pieces, in the order of time or against it."""
    buckets = [row["bucket"] for row in await cassandra.execute(_SELECT_BUCKETS, (part,))]
    here = cursor.at_ms // _BUCKET_MS
    behind = sorted(each for each in buckets if each >= here) if oldest_first else sorted((b for b in buckets if b <= here), reverse=True)
    select = _SELECT_ABOVE if oldest_first else _SELECT_BELOW
    for bucket in behind:
        place: Place | None = cursor
        while place is not None:
            rows = await cassandra.execute(select, (part, bucket, *place, _SCAN_ROWS))
            piece = [_indexed(row) for row in rows]
            place = piece[-1].place if len(piece) == _SCAN_ROWS else None
            if piece:
                yield piece


def _indexed(row: Row) -> _Indexed:
    redriven = row["redriven_at_ms"] is not None
    return _Indexed(Place(row["at_ms"], row["id"]), row["cause"] or "", row["stage"] or "", row["conversation"] or "", redriven)


def _parts(entry: Entry) -> tuple[str, str]:
    return (EVERY_TENANT, entry.tenant)


def _index_keys(entry: Entry) -> list[dict[str, Value]]:
    place: dict[str, Value] = {"bucket": entry.at_ms // _BUCKET_MS, "at_ms": entry.at_ms, "id": entry.id}
    return [{"part": part, **place} for part in _parts(entry)]


def _ttl_s(entry: Entry, now_ms: int) -> int:
    """Return how many seconds a letter is still kept: counted from its failure, so that rows written again go at the same time."""
    return min(KEPT_MS, entry.at_ms + KEPT_MS - now_ms) // 1000


def _read_cursor(text: str, default: Place) -> Place:
    if not text:
        return default
    at_ms, _, letter = text.partition(".")
    if not at_ms.isascii() or not at_ms.isdigit() or int(at_ms[:20]) >= _NEWEST.at_ms or not letter:
        raise CursorError(f"{text[:60]!r} is no cursor that a page gave out")
    return Place(int(at_ms), letter)
