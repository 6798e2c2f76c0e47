"""streams.table_restoring: the local store from the real changelog, also when it is interrupted and begun again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import CONVERSATIONS_CHANGELOG
from streams.app import create_app
from streams.rows import ConversationRow, offset_done
from streams.table import ConversationTable, NewestRowTable
from streams.table_restoring import AheadError, Restorer
from tests.reading import records

pytestmark = pytest.mark.servers

PARTITION = 3


def row(done: int) -> bytes:
    return msgspec.json.encode(ConversationRow(done=done))


async def logged(settings: Settings, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
    producer = Producer(settings, client_id="test")
    await producer.start()
    await asyncio.gather(*(producer.send(CONVERSATIONS_CHANGELOG.name, key=key, value=value, partition=PARTITION) for key, value in rows))
    await producer.stop()


def local_table(settings: Settings) -> NewestRowTable:
    """Return the table of a worker that is not started."""
    table: NewestRowTable = create_app(settings).tables["conversations"]
    return table


def stored(table: NewestRowTable, key: bytes) -> int | None:
    value = table.data._db_for_partition(PARTITION).get(key)
    return None if value is None else offset_done(value)


async def test_of_two_rows_the_one_that_has_done_more_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused worker's late row does not undo its successor's; what was forgotten is gone; the next time begins where this one ended."""
    await create_topics(settings)
    await logged(settings, [(b"a", row(1)), (b"b", row(2)), (b"a", row(7)), (b"a", row(5)), (b"c", row(3)), (b"c", None)])
    table = local_table(settings)
    await Restorer(settings, table).restore({PARTITION, 0})
    assert [stored(table, key) for key in (b"a", b"b", b"c")] == [7, 2, None]
    assert table.next_to_restore(PARTITION) == 6
    await logged(settings, [(b"a", row(6)), (b"b", row(9))])
    read: list[int] = []
    restore = table.restore

    def noted(partition: int, records: Sequence[Record]) -> None:
        read.extend(record.offset for record in records)
        restore(partition, records)

    monkeypatch.setattr(table, "restore", noted)
    await Restorer(settings, table).restore({PARTITION})
    assert read == [6, 7]
    assert [stored(table, key) for key in (b"a", b"b")] == [7, 9]


@asynccontextmanager
async def writing(settings: Settings, table: NewestRowTable) -> AsyncIterator[ConversationTable]:
    """Yield the table as the stage writes it."""
    producer = Producer(settings, client_id="test")
    await producer.start()
    try:
        yield ConversationTable(table, producer)
    finally:
        await producer.stop()


async def test_what_a_successor_wrote_is_restored_whatever_was_written_behind_it(settings: Settings) -> None:
    """A paused worker goes on writing for a moment: its store must not say that it has what came meanwhile."""
    await create_topics(settings)
    table = local_table(settings)
    await Restorer(settings, table).restore({PARTITION})
    async with writing(settings, table) as rows:
        for number in range(100):
            await rows.put(PARTITION, b"ours %d" % number, row(number))
        before = table.next_to_restore(PARTITION)
        assert 0 < before <= 100
        await logged(settings, [(b"theirs %d" % number, row(number)) for number in range(300)])
        for number in range(200):
            await rows.put(PARTITION, b"late %d" % number, row(number))
    assert before <= table.next_to_restore(PARTITION) <= 100
    await Restorer(settings, table).restore({PARTITION})
    assert all(stored(table, b"theirs %d" % number) == number for number in range(300))
    assert table.next_to_restore(PARTITION) == 600


async def test_of_two_rows_the_newer_one_is_written_again_where_it_is_not_the_last(settings: Settings) -> None:
    """Compaction keeps the last one: without ours, whoever restores after that has the older one."""
    await create_topics(settings)
    await logged(settings, [(b"a", row(7)), (b"a", row(5)), (b"b", row(7)), (b"b", row(5)), (b"b", row(8)), (b"c", row(1))])
    table = local_table(settings)
    await Restorer(settings, table).restore({PARTITION})
    assert table.outdone == {(PARTITION, b"a")}
    async with writing(settings, table) as rows:
        await rows.write_outdone({PARTITION})
        await rows.write_outdone({PARTITION})
    found = [record for record in await records(settings, CONVERSATIONS_CHANGELOG.name) if record.partition == PARTITION]
    assert [(record.key, offset_done(record.value)) for record in found[6:]] == [(b"a", 7)]
    table.outdone.add((PARTITION, b"a"))
    async with writing(settings, table) as rows:
        await rows.write_outdone({0})  # it is somebody else's by now
    assert len(await records(settings, CONVERSATIONS_CHANGELOG.name)) == 7


async def test_interrupted_it_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled at any batch and called again, as by rebalances, it misses no row."""
    await create_topics(settings)
    count = 9_000
    await logged(settings, [(b"%d" % number, row(number)) for number in range(count)])
    table = local_table(settings)
    restorer = Restorer(settings, table)
    batches = 0
    restore = table.restore
    running: asyncio.Task[None] | None = None

    def interrupting(partition: int, records: Sequence[Record]) -> None:
        nonlocal batches
        batches += 1
        restore(partition, records)
        assert running is not None
        running.cancel()

    monkeypatch.setattr(table, "restore", interrupting)
    while table.next_to_restore(PARTITION) < count:
        running = asyncio.create_task(restorer.restore({PARTITION}))
        with suppress(asyncio.CancelledError):
            await running
    assert batches > 2
    assert all(stored(table, b"%d" % number) == number for number in range(count))


async def test_a_store_of_another_broker_is_refused(settings: Settings) -> None:
    """The sentence names the folder."""
    await create_topics(settings)
    table = local_table(settings)
    table.restore(PARTITION, [Record(CONVERSATIONS_CHANGELOG.name, PARTITION, 41, b"k", row(1), [], 0)])
    with pytest.raises(AheadError, match=rf"up to offset 41.*move {settings.home}/streams/test away"):
        await Restorer(settings, table).restore({PARTITION})


async def test_it_waits_for_the_broker(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away is waited for, and not taken for an empty log."""
    monkeypatch.setattr("streams.table_restoring._AGAIN_S", 0.05)
    await create_topics(settings)
    await logged(settings, [(b"a", row(1))])
    table = local_table(settings)
    restorer = Restorer(settings.model_copy(update={"kafka": "127.0.0.1:1", "home": tmp_path}), table)
    waiting = asyncio.create_task(restorer.restore({PARTITION}))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    restorer._settings = settings
    await waiting
    assert stored(table, b"a") == 1
