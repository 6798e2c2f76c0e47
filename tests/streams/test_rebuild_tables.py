"""The streams' table made again from the log: the very rows that live streams made, in memory over crashes and once on real servers."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.config_tables import ConfigTables
from infra.errors import RefusedError
from infra.kafka.bounded import Stretch
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from infra.simulator.webhooks import text_body
from schemas.codec import decode, encode
from schemas.topics import CONVERSATIONS_CHANGELOG, INBOUND, RAW
from streams.rebuild_tables import Compared, ForgettingWriter, keep_newest, make_rows, rebuild_tables, refuse_if_live
from streams.replay.fence import FencedError
from streams.replay.store import Store
from streams.rows import ConversationRow
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import decided, records
from tests.streams.replay.recorded_runs import Again, Run
from tests.streams.replay.test_decide_again import eventful
from tests.streams.replay.test_replay import handled
from tests.topic_settings import forget_before


class MemoryReader:
    """Gives the records of a run in memory."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def read(self, _: Collection[Stretch]) -> AsyncGenerator[list[Record], None]:
        yield self._run.recorded()

    async def run(self, stretches: Sequence[Stretch], handle: Callable[[list[Record]], Awaitable[None]], **words: Any) -> bool:
        for stretch in stretches:
            for record in self._run.raw[stretch.partition][stretch.start : stretch.end]:
                if words["stopping"].is_set():
                    return False
                await handle([record])
                words["advanced"](1)
        return True


def folder(path: Path, number: int) -> Path:
    made = path / str(number)
    made.mkdir()
    return made


async def again(run: Run, path: Path, *, starts: list[int] | None = None) -> Store:
    """Return the rows that the records of a run lead to."""
    store = Store(path / "new.sqlite")
    plan = Again(run, path, starts=starts or []).plan()
    reader: Any = MemoryReader(run)
    assert await make_rows(plan, store, reader, ConfigTables(Settings(_env_file=None)), progress=lambda *_: None, stopping=asyncio.Event())
    return store


async def table(run: Run, path: Path) -> Store:
    """Return the rows that a run left."""
    store = Store(path / "old.sqlite")
    for (partition, key), value in run.rows.items():
        await store.put(partition, key, value)
    return store


async def compared(run: Run, path: Path, *, starts: list[int] | None = None) -> Compared:
    new = await again(run, path, starts=starts)
    committed = dict(enumerate(len(records) for records in run.raw))
    gone = [number for number, start in enumerate(starts or []) if start]
    return Compared(await table(run, path), new, committed=committed, gone=gone)


async def test_rows_made_again_are_those_of_live_streams(tmp_path: Path) -> None:
    """Over duplicates, failures, late and linked keys: every row, its words, its ids and its name."""
    for number in range(6):
        seed = random.randrange(1 << 30)
        sys.stdout.write(f"seed {seed}\n")
        run = await eventful(seed, crash_share=0.0)
        found = await compared(run, folder(tmp_path, number))
        assert {verdict: count for verdict, count in found.counts().items() if count} == {"same": len(run.rows)}


async def test_after_crashes_the_words_that_left_count(tmp_path: Path) -> None:
    """A worker that died between an answer and its row answered once more, and its row has words that never left."""
    different = 0
    for number in range(8):
        seed = random.randrange(1 << 30)
        sys.stdout.write(f"seed {seed}\n")
        run = await eventful(seed, crash_share=0.05)
        found = await compared(run, folder(tmp_path, number))
        left = {event.message for event in map(_text, run.sends())}
        for partition, key, verdict in found.conversations():
            if verdict == "same":
                continue
            assert verdict == "changed"
            old, new = (decode(store.get(partition, key) or b"", ConversationRow) for store in (found.old, found.new))
            assert (old.done, old.ids, old.name, len(old.turns)) == (new.done, new.ids, new.name, len(new.turns))
            for was, now in zip(old.turns, new.turns, strict=True):
                assert was == now or (now.role == "assistant" and now.text in left)
            different += 1
    assert different > 0


def _text(event: Any) -> Any:
    return msgspec.structs.replace(event, message=msgspec.json.decode(event.message)["text"]["body"])


async def test_a_table_that_was_lost_or_damaged_is_told(tmp_path: Path) -> None:
    """Rows that are gone, changed or no rows at all are found; one of which the log knows nothing is left alone."""
    run = await eventful(7, crash_share=0.0)
    keys = list(run.rows)
    del run.rows[keys[0]]
    run.rows[keys[1]] = b"nonsense"
    row = decode(run.rows[keys[2]], ConversationRow)
    run.rows[keys[2]] = encode(msgspec.structs.replace(row, turns=[]))
    run.rows[keys[3][0], b"wa:1:unknown"] = encode(ConversationRow(done=0))
    counts = (await compared(run, tmp_path)).counts()
    wanted = {"missing": 1, "unreadable": 1, "changed": 1, "unexplained": 1, "same": len(keys) - 3, "ahead": 0, "older": 0}
    assert counts == wanted


async def test_a_log_that_lacks_its_beginning_changes_no_row_that_knows_more(tmp_path: Path) -> None:
    """Words, ids and names of before are kept: such rows are the same as far as the log goes, or older, and only what is gone is made."""
    run = await eventful(11, crash_share=0.0)
    starts = [len(records) // 2 for records in run.raw]
    counts = (await compared(run, tmp_path, starts=starts)).counts()
    assert (counts["changed"], counts["missing"], counts["unexplained"]) == (0, 0, 0)
    assert counts["same"] + counts["older"] == len(run.rows)


async def test_recovery_s_rule(tmp_path: Path) -> None:
    """Of two rows of a key the one with the higher offset done; an empty record forgets the key."""
    store = Store(tmp_path / "s")
    rows = [encode(ConversationRow(done=done)) for done in (5, 7, 6)]
    for row in rows:
        await keep_newest(store, Record("c", 0, 0, b"k", row, [], 0))
    assert store.get(0, b"k") == rows[1]
    await keep_newest(store, Record("c", 0, 0, b"k", b"", [], 0))
    assert store.get(0, b"k") is None


async def test_its_writer_writes_nowhere(tmp_path: Path) -> None:
    """It is fenced as a replay's is: the table itself is out of its reach."""
    writer = ForgettingWriter(Store(tmp_path / "s"))
    assert not isinstance(writer, Producer)
    assert await writer.send(RAW.name, key=b"k", value=b"v", headers=[]) == 0
    with pytest.raises(FencedError):
        await writer.send(CONVERSATIONS_CHANGELOG.name, key=b"k", value=b"v", headers=[])


@pytest.mark.servers
@pytest.mark.timeout(600)
async def test_on_real_servers(settings: Settings) -> None:
    """Refused while streams run; the same when nothing is wrong; lost and damaged rows are put back, and workers restore them."""
    bodies = [
        text_body(account=ACCOUNT, phone=f"1555000{phone:04}", texts=[(f"wamid.{phone}.{number}", f"{number}")], at_s=int(time.time()))
        for number in range(2)
        for phone in range(12)
    ]
    async with Installation(settings, roles=("ingress", "streams")) as installation:
        for body in bodies:
            assert await installation.post(body) == 200
        await handled(settings)
        with pytest.raises(RefusedError, match=r"is live .* stop every `ottla run streams`"):
            await rebuild_tables(settings, execute=True, progress=silent)
        await installation.running["streams"].end()
        await stopped(settings)
        same = await rebuild_tables(settings, execute=False, progress=silent)
        # Each person has a phone number and a user id.
        assert ({verdict: count for verdict, count in same.verdicts.items() if count}, same.gone) == ({"same": 24}, [])
        assert json.loads((await cli(settings, "-o", "json")).stdout)["verdicts"] == same.verdicts

        lost, damaged = (f"wa:{ACCOUNT}:1555000{phone:04}".encode() for phone in (3, 4))
        producer = Producer(settings, client_id="test")
        await producer.start()
        await producer.send(CONVERSATIONS_CHANGELOG.name, key=lost, value=None)
        await producer.send(CONVERSATIONS_CHANGELOG.name, key=damaged, value=encode(ConversationRow(done=0, turns=[], ids=b"")))
        await producer.send(CONVERSATIONS_CHANGELOG.name, key=damaged, value=None)
        await producer.send(CONVERSATIONS_CHANGELOG.name, key=damaged, value=encode(ConversationRow(done=0, turns=[], ids=b"")))
        await producer.stop()
        shown = await cli(settings)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "2 conversations would be written; nothing was changed" in shown.stdout
        done = await cli(settings, "--execute")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Wrote 2 rows" in done.stdout
        after = await rebuild_tables(settings, execute=False, progress=silent)
        assert after.verdicts == same.verdicts

        await asyncio.to_thread(shutil.rmtree, settings.home / "streams")
        decided_before = len(decided(await records(settings, INBOUND.name)))
        installation.running["streams"].start()
        await installation.ready("streams")
        for body in bodies:
            assert await installation.post(body) == 200
        await handled(settings)
        assert len(decided(await records(settings, INBOUND.name))) == decided_before == len(bodies)

        # Of a conversation whose answers are gone it is not known what rows should say, though [raw] is whole.
        number = next(each.partition for each in await records(settings, INBOUND.name))
        await forget_before(settings, INBOUND.name, number, 1)
        await installation.running["streams"].end()
        await stopped(settings)
        assert (await rebuild_tables(settings, execute=False, progress=silent)).gone == [number]


async def cli(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTTLA_")} | {
        "OTTLA_HOME": str(settings.home),
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
    }
    command = [sys.executable, "-m", "infra", "replay", "--rebuild", "tables", *words]
    return await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=200, check=False)


async def stopped(settings: Settings) -> None:
    """Wait until the broker has forgotten the last member."""
    async with asyncio.timeout(60):
        while True:
            try:
                await refuse_if_live(settings)
            except RefusedError:
                await asyncio.sleep(0.2)
            else:
                return


def silent(*_: object) -> None:
    return
