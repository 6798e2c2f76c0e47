"""The sink of dead letters: whatever stands in the topic is kept once, for 30 days, and nothing becomes a dead letter of its own."""

import random
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from infra.cassandra.dead_letters import (
    KEPT_MS,
    OPEN,
    REDRIVEN,
    Entry,
    Filter,
    dead_letter_rows,
    read_dead_letter,
    read_dead_letters,
    read_groups,
    read_stack,
    redriven_rows,
)
from infra.cassandra.reading import EVERY_TENANT, CursorError
from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.clock import SystemClock
from infra.kafka.record import Record
from infra.retries import AwayError
from infra.settings import Settings
from schemas.codec import Headers
from schemas.events.dead_letter import DeadLetter, dead_letter_headers, dead_letter_id
from sinks.base import Context
from sinks.dead_letters_to_history import UNREADABLE, DeadLettersToHistory, build, rows_of
from sinks.runner import sinks_by_name
from tests.cassandra.conftest import cassandra, history_settings, tenant

__all__ = ["cassandra", "history_settings", "tenant"]

KEY = "wa:106540352242922:16505550001"


def context(settings: Settings) -> Context:
    nothing = cast("Any", None)
    return Context(settings=settings, producer=nothing, config=nothing, clock=SystemClock())


@pytest.fixture
async def sink(history_settings: Settings) -> AsyncIterator[DeadLettersToHistory]:
    sink = DeadLettersToHistory(context(history_settings))
    await sink.start()
    yield sink
    await sink.stop()


def letter(**changes: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "stage": "streams",
        "cause": "agent-error",
        "error": "RuntimeError: no",
        "topic": "raw",
        "partition": 3,
        "offset": 7,
        "attempts": 3,
        "at": SystemClock().now_ms() - 5_000,
        "stack": "Traceback",
    }
    return DeadLetter(**fields | changes)


def record(headers: Headers, *, offset: int = 0, value: bytes = b"{}", key: str = KEY, at_ms: int = 1) -> Record:
    return Record("dead-letters", 2, offset, key.encode(), value, headers, at_ms)


def id_of(said: DeadLetter) -> str:
    return dead_letter_id(dead_letter_headers(said), partition=0, offset=0)


async def listed(
    cassandra: Cassandra, tenant: str, wanted: Filter | None = None, *, limit: int = 100, oldest_first: bool = False
) -> list[Entry]:
    """Return every letter over all pages."""
    found: list[Entry] = []
    cursor: str | None = ""
    while cursor is not None:
        before, after = (None, cursor) if oldest_first else (cursor, None)
        page = await read_dead_letters(cassandra, tenant=tenant, wanted=wanted or Filter(), before=before, after=after, limit=limit)
        found += page.entries
        cursor = page.cursor
    return found


async def test_the_runner_finds_it() -> None:
    """`ottla run sinks dead-letters` runs this sink."""
    assert sinks_by_name()["dead-letters"] is build


async def test_a_database_that_is_away_is_waited_for() -> None:
    """Without a database the sink starts, and its records are held back rather than given up."""
    sink = DeadLettersToHistory(context(Settings(cassandra="127.0.0.1:1", _env_file=None)))
    await sink.start()
    with pytest.raises(AwayError):
        await sink.handle([record(dead_letter_headers(letter()))])
    await sink.stop()


def test_a_letter_is_kept_for_30_days_from_its_failure() -> None:
    """Written late or again its rows go at the same time; after that there are none."""
    said = letter(at=1_000_000_000_000)
    for age_ms, left_s in ((0, 30 * 86_400), (86_400_000, 29 * 86_400), (-86_400_000, 30 * 86_400)):
        rows = rows_of(record(dead_letter_headers(said)), now_ms=said.at + age_ms)
        assert {row.ttl_s for row in rows} == {left_s}
    assert rows_of(record(dead_letter_headers(said)), now_ms=said.at + KEPT_MS) == []


@pytest.mark.parametrize(
    "headers",
    [[], [("ce_id", b"1")], [("ottla_dl_at", b"x")], [("ottla_dl_stage", b"\xff")], [("ottla_dl_stage", cast("bytes", None))]],
)
def test_foreign_headers_are_kept_as_what_they_are(headers: Headers) -> None:
    """A cause says that they cannot be read; the time is the record's, the place that of the letter itself."""
    rows = rows_of(record(headers, offset=9, at_ms=50_000, key="\x00odd"), now_ms=50_000)
    kept = next(row.columns for row in rows if row.table == "processing_errors")
    assert (kept["cause"], kept["tenant"], kept["at_ms"], kept["letter_offset"], kept["topic"]) == (UNREADABLE, "default", 50_000, 9, "")


@pytest.mark.servers
async def test_what_is_kept_is_read_back(sink: DeadLettersToHistory, cassandra: Cassandra, tenant: str) -> None:
    """Every field, with where the letter stands; another tenant has no letter of this id, the administrator has."""
    said = letter(tenant=tenant, offset=random.getrandbits(40), redrive_of="5" * 32)
    await sink.handle([record(dead_letter_headers(said), offset=41, value=b"12345")])
    found = await read_dead_letter(cassandra, tenant=tenant, letter=id_of(said))
    assert found is not None
    assert found == await read_dead_letter(cassandra, tenant=EVERY_TENANT, letter=id_of(said))
    assert await read_dead_letter(cassandra, tenant=f"{tenant}-other", letter=id_of(said)) is None
    assert (found.letter_partition, found.letter_offset, found.size, found.conversation, found.redrive_of) == (2, 41, 5, KEY, "5" * 32)
    for name in ("stage", "cause", "error", "topic", "partition", "offset", "attempts", "tenant"):
        assert getattr(found, name) == getattr(said, name)
    assert (found.at_ms, found.retry_count, found.state) == (said.at, 0, OPEN)
    assert await read_stack(cassandra, id_of(said)) == "Traceback"
    left = await cassandra.execute("SELECT ttl(stage) AS left FROM @.processing_errors WHERE id = ?", (id_of(said),))
    assert 29 * 86_400 < left[0]["left"] <= 30 * 86_400


@pytest.mark.servers
async def test_records_come_any_number_of_times(sink: DeadLettersToHistory, cassandra: Cassandra, tenant: str) -> None:
    """Again, in another order and after a redrive: one entry, and its redrives stay counted; a failure recorded twice is listed once."""
    base = random.getrandbits(40)
    said = [letter(tenant=tenant, offset=base + number) for number in range(3)]
    records = [record(dead_letter_headers(each), offset=number) for number, each in enumerate(said)]
    await sink.handle(records)
    first = await read_dead_letter(cassandra, tenant=tenant, letter=id_of(said[0]))
    assert first is not None
    await write_rows(cassandra, redriven_rows(first, now_ms=SystemClock().now_ms()))
    await sink.handle(records[::-1])
    killed = msgspec.structs.replace(said[1], at=said[1].at + 700_000)
    await sink.handle([record(dead_letter_headers(killed), offset=5)])
    found = {each.id: each for each in await listed(cassandra, tenant)}
    assert set(found) == {id_of(each) for each in said}
    assert len(await listed(cassandra, tenant)) == 3
    again = found[first.id]
    assert (again.retry_count, again.state, again.redriven_at_ms > 0) == (1, REDRIVEN, True)
    assert found[id_of(said[1])].letter_offset == 5
    await write_rows(cassandra, redriven_rows(again, now_ms=SystemClock().now_ms()))
    twice = await read_dead_letter(cassandra, tenant=tenant, letter=first.id)
    assert twice is not None
    assert twice.retry_count == 2
    (group,), _ = await read_groups(cassandra, tenant=tenant, wanted=Filter())
    assert (group.open, group.redriven) == (2, 1)


@pytest.mark.servers
@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_pages_and_filters(sink: DeadLettersToHistory, cassandra: Cassandra, tenant: str, limit: int) -> None:
    """Over hours and days every letter comes once, newest first or oldest first, and so do those of a cause, stage or conversation."""
    now_ms, base = SystemClock().now_ms(), random.getrandbits(40)
    ages_ms = [0, 1, 2, 3, 700_000, 3_600_000, 86_400_000, 20 * 86_400_000]
    said = [
        letter(tenant=tenant, offset=base + number, at=now_ms - age_ms, cause="odd" if number % 2 else "even", stage=f"s{number % 3}")
        for number, age_ms in enumerate(ages_ms)
    ]
    keys = ["wa:1:1" if number < 4 else "wa:1:2" for number in range(len(said))]
    await sink.handle([record(dead_letter_headers(each), key=key) for each, key in zip(said, keys, strict=True)])
    ids = [id_of(each) for each in said]
    assert [each.id for each in await listed(cassandra, tenant, limit=limit)] == ids
    assert [each.id for each in await listed(cassandra, tenant, limit=limit, oldest_first=True)] == ids[::-1]
    assert [each.id for each in await listed(cassandra, tenant, Filter(cause="odd"), limit=limit)] == ids[1::2]
    assert [each.id for each in await listed(cassandra, tenant, Filter(stage="s0"), limit=limit)] == ids[::3]
    assert [each.id for each in await listed(cassandra, tenant, Filter(conversation="wa:1:2"), limit=limit)] == ids[4:]
    assert await listed(cassandra, tenant, Filter(state=REDRIVEN), limit=limit) == []
    everybody = {each.id for each in await listed(cassandra, EVERY_TENANT, limit=1_000)}
    assert set(ids) <= everybody
    groups, cursor = await read_groups(cassandra, tenant=tenant, wanted=Filter())
    assert cursor is None
    assert {(group.cause, group.open) for group in groups if group.stage == "s0"} == {("even", 2), ("odd", 1)}


@pytest.mark.servers
async def test_more_of_one_millisecond_than_one_read_brings(cassandra: Cassandra, tenant: str) -> None:
    """A model that is away fails thousands at once: none is lost to the paging."""
    now_ms = SystemClock().now_ms()
    ids = sorted(uuid.uuid4().hex for _ in range(1_100))
    for each in ids:
        found = Entry(
            id=each,
            tenant=tenant,
            conversation=KEY,
            stage="streams",
            cause="x",
            error="",
            topic="raw",
            partition=0,
            offset=0,
            attempts=1,
            at_ms=now_ms,
            letter_partition=0,
            letter_offset=0,
            size=0,
        )
        await write_rows(cassandra, dead_letter_rows(found, stack="", now_ms=now_ms))
    assert [each.id for each in await listed(cassandra, tenant, limit=400, oldest_first=True)] == ids
    assert [each.id for each in await listed(cassandra, tenant, limit=1_000)] == ids[::-1]


@pytest.mark.servers
@pytest.mark.parametrize("cursor", ["x", "1", "1.", "-1.x", f"{1 << 80}.x", "."])
async def test_a_cursor_of_nobody_is_refused(cassandra: Cassandra, tenant: str, cursor: str) -> None:
    """A cursor that no page gave out is an error, not an empty page."""
    with pytest.raises(CursorError):
        await read_dead_letters(cassandra, tenant=tenant, wanted=Filter(), before=cursor)


@pytest.mark.servers
async def test_what_the_database_refuses_waits(sink: DeadLettersToHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dead letter would come back to this sink for ever: it is held back instead, its bytes are safe in the log."""

    async def refuse(*_: object) -> None:
        raise TypeError("no such column")

    monkeypatch.setattr("sinks.dead_letters_to_history.write_rows", refuse)
    with pytest.raises(CassandraAwayError, match="no such column"):
        await sink.handle([record(dead_letter_headers(letter()))])
