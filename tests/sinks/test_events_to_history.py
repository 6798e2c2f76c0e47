"""The history sink on a real Cassandra: records in any order and any number give one reading."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from infra.cassandra.binding import Write
from infra.cassandra.reading import read_messages
from infra.cassandra.rows import Row, write_rows
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.kafka.record import Record
from infra.retries import AwayError
from infra.settings import Settings
from schemas.codec import DecodeError
from schemas.events.canary import canary_keys
from sinks.events_to_history import History, UndecodableError, build
from sinks.runner import sinks_by_name
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk

__all__ = ["cassandra", "history_settings", "tenant"]


@pytest.fixture
async def history(history_settings: Settings) -> AsyncIterator[History]:
    sink = History(history_settings)
    await sink.start()
    yield sink
    await sink.stop()


def a_whole_talk(talk: Talk) -> list[Record]:
    """Return what the log holds of three questions and their answers, with reruns and statuses."""
    records: list[Record] = []
    for number in range(3):
        at_ms = NOON_MS + 10_000 * number
        asked, answered = f"wamid.{talk.contact}.in{number}", f"wamid.{talk.contact}.out{number}"
        cause = talk.cause(asked)
        records += [
            talk.inbound(asked, f"question {number}", at_ms=at_ms, decision="failed", reason="timeout"),
            talk.inbound(asked, f"question {number}", at_ms=at_ms, decided_at=at_ms + 900),
            talk.outbound(cause, f"answer {number}", at_ms=at_ms + 950),
            talk.outbound(cause, f"another answer {number}", at_ms=at_ms + 1_950),
            talk.sent(cause, f"answer {number}", created_ms=at_ms + 950, platform_id=answered),
            *(talk.status(answered, each, at_ms=at_ms + 3_000, send=talk.send(cause)) for each in ("sent", "delivered", "read")),
        ]
    return records


async def reading(cassandra: Cassandra, talk: Talk) -> list[dict[str, Any]]:
    page = await read_messages(cassandra, tenant=talk.tenant, conversation=talk.key)
    assert page is not None
    built: list[dict[str, Any]] = msgspec.to_builtins(page.messages)
    return built


async def test_the_runner_finds_it() -> None:
    """`ottla run sinks history` runs this sink."""
    assert sinks_by_name()["history"] is build


async def test_a_database_that_is_away_is_waited_for() -> None:
    """Without a database the sink starts, and its records are held back rather than given up."""
    sink = History(Settings(cassandra="127.0.0.1:1", _env_file=None))
    await sink.start()
    with pytest.raises(AwayError):
        await sink.handle([Talk().inbound("wamid.1", "hello", at_ms=NOON_MS)])
    await sink.stop()


@pytest.mark.servers
async def test_twice_and_in_any_order_is_one_reading(history: History, cassandra: Cassandra, tenant: str) -> None:
    """Every record handled twice, in shuffled order and odd batches, gives what the log's own order gives."""
    expected: list[dict[str, Any]] | None = None
    for seed in range(6):
        talk = Talk(contact=f"1650555{seed:04}", tenant=tenant)
        records = a_whole_talk(talk)
        if seed:
            records = records * 2
            random.Random(seed).shuffle(records)
        for batch in _batches(records, seed + 1):
            await history.handle(batch)
        found = [_without_names(message, talk) for message in await reading(cassandra, talk)]
        expected = expected or found
        assert found == expected
    assert expected is not None
    assert [message["text"] for message in expected] == ["answer 2", "question 2", "answer 1", "question 1", "answer 0", "question 0"]
    assert [message["status"] for message in expected] == ["read", "received"] * 3
    assert {message["decision"] for message in expected[1::2]} == {"answered"}


def _batches(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[start : start + size] for start in range(0, len(records), size)]


def _without_names(message: dict[str, Any], talk: Talk) -> dict[str, Any]:
    """Return a message without what differs between one talk and another, so that talks can be compared."""
    text = msgspec.json.encode(message).decode().replace(talk.contact, "CONTACT")
    named: dict[str, Any] = msgspec.json.decode(text)
    return {name: value for name, value in named.items() if name not in ("id", "cause", "replies")}


@pytest.mark.servers
async def test_records_that_are_none_take_no_sibling_along(history: History, cassandra: Cassandra, tenant: str) -> None:
    """A batch with broken records writes the good ones and names the broken ones."""
    talk = Talk(tenant=tenant)
    broken = Record("inbound", 3, 5, talk.key.encode(), b"{", [], 0)
    good = [talk.inbound("wamid.1", "one", at_ms=NOON_MS), talk.inbound("wamid.2", "two", at_ms=NOON_MS + 1)]
    with pytest.raises(UndecodableError) as caught:
        await history.handle([good[0], broken, good[1]])
    assert isinstance(caught.value, DecodeError)
    assert caught.value.records == (broken,)
    assert [message["text"] for message in await reading(cassandra, talk)] == ["two", "one"]


@pytest.mark.servers
async def test_a_failed_write_is_not_remembered_as_done(
    history: History, cassandra: Cassandra, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database goes away in the middle, the same records handed over again write everything."""
    talk = Talk(tenant=tenant)
    record = talk.inbound("wamid.1", "hello", at_ms=NOON_MS)

    async def away(*_: object) -> None:
        raise CassandraAwayError("Cassandra does not answer (test).")

    with monkeypatch.context() as patched:
        patched.setattr("sinks.events_to_history.write_rows", away)
        with pytest.raises(CassandraAwayError):
            await history.handle([record])
    await history.handle([record])
    assert [message["text"] for message in await reading(cassandra, talk)] == ["hello"]


@pytest.mark.servers
async def test_rows_that_are_keys_alone_are_written_once(history: History, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that goes on costs two rows a message: what only says that it exists was written with the first one."""
    talk = Talk(tenant=tenant)
    tables: list[list[str]] = []

    async def note(_: object, rows: Sequence[Row]) -> None:
        tables.append([row.table for row in rows])

    monkeypatch.setattr("sinks.events_to_history.write_rows", note)
    for number in range(2):
        await history.handle([talk.inbound(talk.wamid(str(number)), "hello", at_ms=NOON_MS + number)])
    assert tables == [
        ["history_tenants", "active_days", "conversation_buckets", "contacts", "activity"],
        ["messages"],
        ["activity"],
        ["messages"],
    ]


def test_conversations_of_a_partition_are_written_together() -> None:
    """Their rows converge in any order, so they need no lanes of their own; canaries, which are not written, do."""
    history = History(Settings(_env_file=None))
    lanes = {history.lane(talk.inbound("wamid.1", "hello", at_ms=NOON_MS)) for talk in (Talk(), Talk())}
    assert len(lanes) == 1
    (canary,) = canary_keys(1)
    assert history.lane(Record("sent", 3, 5, canary.encode(), b"", [], 0)) not in lanes


@pytest.mark.servers
async def test_what_comes_together_is_written_in_few_requests(history: History, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty conversations' whole turns: rows that only say that something exists once, the index before any message."""
    talks = _talks(20, tenant)
    await history.handle([record for talk in talks for record in a_whole_talk(talk)])
    sent: list[list[str]] = []
    execute_batch = Cassandra.execute_batch

    async def note(cassandra: Cassandra, writes: Sequence[Write]) -> None:
        await execute_batch(cassandra, writes)
        sent.append([write.cql.split()[2].removeprefix("@.") for write in writes])

    monkeypatch.setattr(Cassandra, "execute_batch", note)
    later = 86_400_000 // 2
    await history.handle([talk.inbound(talk.wamid("late"), "hello again", at_ms=NOON_MS - later) for talk in talks for _ in range(2)])
    tables = [table for request in sent for table in request]
    assert {table: tables.count(table) for table in set(tables)} == {"activity": 40, "messages": 40}
    assert len(sent) <= 20
    first_message = next(number for number, request in enumerate(sent) if "messages" in request)
    assert all("activity" not in request for request in sent[first_message:])


@pytest.mark.servers
async def test_lanes_write_their_index_together(history: History, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of a tenant has eight partitions for all conversations: lanes that are filled together write each of them once."""
    lanes = [[talk.inbound(talk.wamid(f"{number}"), "hello", at_ms=NOON_MS + number) for number in range(2)] for talk in _talks(40, tenant)]
    written: list[list[Row]] = []
    write_all = write_rows

    async def note(cassandra: Cassandra, rows: Sequence[Row]) -> None:
        written.append(list(rows))
        await write_all(cassandra, rows)

    monkeypatch.setattr("sinks.events_to_history.write_rows", note)
    await asyncio.gather(*map(history.handle, lanes))
    index = [rows for rows in written if any(row.table == "activity" for row in rows)]
    assert [sum(row.table == "activity" for row in rows) for rows in index] == [80]


async def test_a_row_that_is_refused_takes_no_other_lane_along(tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails together is handed over singly; then the lanes' rows are not written together, so only the bad one fails again."""
    good, bad = _talks(2, tenant)
    records = {talk.key: [talk.inbound(talk.wamid(f"{number}"), "hello", at_ms=NOON_MS) for number in range(2)] for talk in (good, bad)}

    async def refuse(_: object, rows: Sequence[Row]) -> None:
        await asyncio.sleep(0)
        if any(row.columns.get("conversation") == bad.key for row in rows):
            raise ValueError("refused")

    async def connected() -> None:
        pass

    history = History(Settings(_env_file=None))
    monkeypatch.setattr(history._cassandra, "connected", connected)
    monkeypatch.setattr("sinks.events_to_history.write_rows", refuse)
    together = await asyncio.gather(*(history.handle(each) for each in records.values()), return_exceptions=True)
    assert [type(outcome) for outcome in together] == [ValueError, ValueError]
    singly = [(talk, [record]) for talk in (good, bad) for record in records[talk.key]]
    outcomes = await asyncio.gather(*(history.handle(each) for _, each in singly), return_exceptions=True)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [talk is bad for talk, _ in singly]


def _talks(count: int, tenant: str) -> list[Talk]:
    return [Talk(contact=f"1650557{number:04}", tenant=tenant) for number in range(count)]


@pytest.mark.servers
async def test_what_no_database_could_hold_is_written_readably(history: History, cassandra: Cassandra, tenant: str) -> None:
    """Zero bytes, controls, right-to-left marks and 64 KiB of text come back as they were."""
    talk = Talk(tenant=tenant)
    texts = ["\x00zero", "\x1b[2Jclear", "\u202eevil", "🙂" * 16_000, ""]
    await history.handle([talk.inbound(f"wamid.{number}", text, at_ms=NOON_MS + number) for number, text in enumerate(texts)])
    assert [message["text"] for message in await reading(cassandra, talk)] == texts[::-1]
