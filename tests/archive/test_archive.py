"""Archives of a real log: exactly what was in it, once, over kills; and read together with what the log still has."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.archive import writer
from infra.archive.archive import Archive, locked, partition_folder
from infra.archive.manifest import Manifest, read_manifest, write_manifest
from infra.archive.segment import DamagedError, SegmentWriter
from infra.archive.verify import verify
from infra.archive.writer import Archived, plan_archive, with_gone, write_archive
from infra.errors import RefusedError
from infra.kafka.bounded import BoundedReader, GoneError, Stretch, bounded_reader
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import INBOUND, RAW, Topic
from tests.topic_settings import forget_before

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

PARTITIONS = 2


async def make_topics(settings: Settings, *topics: Topic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic.named(settings.topic_prefix), PARTITIONS, 1) for topic in topics])
    finally:
        await admin.close()


async def forget(settings: Settings, topic: Topic, before: dict[int, int]) -> None:
    """Delete the records below these offsets, as retention does."""
    for number, offset in before.items():
        await forget_before(settings, topic.name, number, offset)


async def fill(settings: Settings, count: int, *, topic: Topic = RAW, first: int = 0) -> None:
    """Write records of which some are no text; they are far enough apart for times to tell them."""
    producer = Producer(settings, client_id="test")
    await producer.start()
    chance = random.Random(first)
    for begin in range(first, first + count, 50):
        sends = []
        for number in range(begin, min(begin + 50, first + count)):
            value = b'{"n":%d}' % number if number % 7 else chance.randbytes(40)
            headers = [("ce_id", str(number).encode()), ("odd", b"\xff\x00"), ("empty", b"")]
            sends.append(producer.produce(topic.name, key=f"k{number % 5}".encode(), value=value, headers=headers))
        await asyncio.gather(*sends)
    await producer.stop()


@asynccontextmanager
async def reading(settings: Settings, *, with_archive: bool) -> AsyncIterator[BoundedReader]:
    async with bounded_reader(settings, group="test", older=Archive(settings) if with_archive else None) as reader:
        yield reader


async def everything(settings: Settings, *, with_archive: bool, topic: Topic = RAW) -> dict[int, list[Record]]:
    """Return all records that there are, by partition."""
    found: dict[int, list[Record]] = {number: [] for number in range(PARTITIONS)}
    async with reading(settings, with_archive=with_archive) as reader:
        begins, ends = await reader.beginnings(topic.name), await reader.ends(topic.name)
        stretches = [Stretch(topic=topic.name, partition=number, start=begins[number], end=ends[number]) for number in ends]
        async for records in reader.read(stretches):
            for record in records:
                found[record.partition].append(record)
    return found


async def archived(
    settings: Settings, *, before_ms: int | None = None, records_per_file: int = 40, topics: tuple[Topic, ...] = (RAW,)
) -> Archived:
    async with reading(settings, with_archive=False) as reader:
        parts = await plan_archive(reader, settings, topics, before_ms=before_ms)
        return await write_archive(
            reader, settings, parts, progress=lambda *_: None, stopping=asyncio.Event(), records_per_file=records_per_file
        )


def wrong(settings: Settings) -> list[str]:
    return [sentence for each in verify(settings.archive_folder, progress=lambda *_: None) for sentence in each.wrong]


async def test_what_the_log_forgets_is_read_from_the_archive_without_seam(settings: Settings) -> None:
    """Byte for byte and in order, wherever the log begins; times lead to the same offsets; what comes later goes on behind it."""
    await make_topics(settings, RAW)
    await fill(settings, 500)
    was = await everything(settings, with_archive=False)
    done = await archived(settings)
    assert (done.records, done.is_whole) == (500, True)
    assert done.files >= 12
    await fill(settings, 300, first=500)
    was = await everything(settings, with_archive=False)
    times = sorted({record.timestamp_ms for records in was.values() for record in records})
    wanted = [0, *(time + more for time in times for more in (0, 1)), times[-1] + 1]
    async with reading(settings, with_archive=False) as reader:
        offsets = [await reader.since(RAW.name, time) for time in wanted]
    for share in (0.25, 0.5, 1.0):
        await forget(settings, RAW, {number: int(len(was[number]) * 0.6 * share) for number in was})
        assert await everything(settings, with_archive=True) == was
        assert await everything(settings, with_archive=False) != was
        async with reading(settings, with_archive=True) as reader:
            assert [await reader.since(RAW.name, time) for time in wanted] == offsets
            assert await reader.beginnings(RAW.name) == {0: 0, 1: 0}
    more = await archived(settings)
    assert more.records == 300
    assert (await archived(settings)).records == 0
    await forget(settings, RAW, {number: len(was[number]) for number in was})
    assert await everything(settings, with_archive=True) == was
    assert wrong(settings) == []
    one = await Archive(settings).record(RAW.name, 1, 17)
    assert one == was[1][17]


async def test_only_what_is_old_enough(settings: Settings) -> None:
    """Up to the first record that was stored then or later; the rest another time."""
    await make_topics(settings, RAW)
    await fill(settings, 100)
    was = await everything(settings, with_archive=False)
    middle_ms = was[0][len(was[0]) // 2].timestamp_ms
    before = sum(record.timestamp_ms < middle_ms for records in was.values() for record in records)
    assert (await archived(settings, before_ms=middle_ms)).records == before
    assert (await archived(settings)).records == 100 - before
    assert wrong(settings) == []


async def test_killed_anywhere_it_goes_on_without_doubles_or_holes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two steps: after each kill the archive is whole as far as it goes, and the next run goes on there."""
    await make_topics(settings, RAW)
    await fill(settings, 300)
    was = await everything(settings, with_archive=False)
    seed = random.randrange(1 << 30)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)

    class KilledError(BaseException):
        pass

    def perilous(function: object) -> object:
        def call(*words: object, **named: object) -> object:
            if chance.random() < 0.1:
                raise KilledError
            result = function(*words, **named)  # type: ignore[operator]
            if chance.random() < 0.1:
                raise KilledError
            return result

        return call

    monkeypatch.setattr(writer, "write_manifest", perilous(write_manifest))
    monkeypatch.setattr(SegmentWriter, "finish", perilous(SegmentWriter.finish))
    # A process that is killed tidies nothing up.
    monkeypatch.setattr(SegmentWriter, "abandon", lambda self: self._file.close())
    killed, done = 0, False
    while not done:
        try:
            await archived(settings, records_per_file=20)
            done = True
        except KilledError:
            killed += 1
    assert killed > 0
    assert all("is not in the manifest" in sentence for sentence in wrong(settings))
    await forget(settings, RAW, {number: len(was[number]) for number in was})
    assert await everything(settings, with_archive=True) == was


async def test_killed_with_9_it_goes_on(settings: Settings) -> None:
    """The command itself, killed once some files are there."""
    await make_topics(settings, RAW)
    await fill(settings, 3_000)
    was = await everything(settings, with_archive=False)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTTLA_")} | {
        "OTTLA_HOME": str(settings.home),
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
    }
    words = [sys.executable, "-m", "infra", "archive", "--topic", "raw", "--records-per-file", "10"]
    process = await asyncio.create_subprocess_exec(*words, env=environment)
    folder = partition_folder(settings.archive_folder, RAW.named(settings.topic_prefix), 0)
    async with asyncio.timeout(120):
        while len(_files(folder)) < 10:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    manifest = read_manifest(folder)
    assert manifest is not None
    assert 0 < manifest.end < len(was[0])
    again = await asyncio.to_thread(subprocess.run, words, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    await forget(settings, RAW, {number: len(was[number]) for number in was})
    assert await everything(settings, with_archive=True) == was


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("*.zst")) if folder.is_dir() else []


async def test_what_retention_took_first_is_said(settings: Settings) -> None:
    """A hole between two archivings is counted; what lies before it is not taken for a part of the log."""
    await make_topics(settings, RAW)
    await fill(settings, 100)
    await archived(settings)
    was = await everything(settings, with_archive=False)
    await fill(settings, 100, first=100)
    await forget(settings, RAW, {number: len(was[number]) + 5 for number in was})
    async with reading(settings, with_archive=False) as reader:
        parts = await plan_archive(reader, settings, [RAW], before_ms=None)
    assert [part.lost for part in parts] == [5, 5]
    await archived(settings)
    assert [each.missing for each in verify(settings.archive_folder, progress=lambda *_: None)] == [5, 5]
    async with reading(settings, with_archive=True) as reader:
        assert await reader.beginnings(RAW.name) == {number: len(was[number]) + 5 for number in was}
        with pytest.raises(GoneError, match="no archive has them"):
            async for _ in reader.read([Stretch(topic=RAW.name, partition=0, start=0, end=len(was[0]) + 10)]):
                pass


async def test_what_retention_takes_after_the_plan_is_said(settings: Settings) -> None:
    """A file covers what it has and no more, also where nothing is left of a partition by the time it is read."""
    await make_topics(settings, RAW)
    await fill(settings, 200)
    was = await everything(settings, with_archive=False)
    async with reading(settings, with_archive=False) as reader:
        parts = await plan_archive(reader, settings, [RAW], before_ms=None)
        await forget(settings, RAW, {0: 30, 1: len(was[1])})
        done = await write_archive(reader, settings, parts, progress=lambda *_: None, stopping=asyncio.Event(), records_per_file=40)
    assert done.gone == [
        Stretch(topic=RAW.name, partition=0, start=0, end=30),
        Stretch(topic=RAW.name, partition=1, start=0, end=len(was[1])),
    ]
    assert [part.lost for part in with_gone(parts, done.gone)] == [30, len(was[1])]
    async with reading(settings, with_archive=True) as reader:
        assert await reader.beginnings(RAW.name) == {0: 30, 1: len(was[1])}
    await forget(settings, RAW, {0: len(was[0])})
    assert await everything(settings, with_archive=True) == {0: was[0][30:], 1: []}
    assert wrong(settings) == []


async def test_what_the_archive_has_alone_is_read_without_the_log(settings: Settings) -> None:
    """The log begins far behind it: nothing is missing there, also not of an archive that begins behind a hole itself."""
    await make_topics(settings, RAW)
    await fill(settings, 200)
    was = await everything(settings, with_archive=False)
    await forget(settings, RAW, {0: 5, 1: 5})
    await archived(settings)
    await fill(settings, 100, first=200)
    await archived(settings)
    await forget(settings, RAW, {number: len(was[number]) + 20 for number in was})
    async with reading(settings, with_archive=True) as reader:
        stretches = [Stretch(topic=RAW.name, partition=number, start=5, end=len(was[number]) - 10) for number in was]
        found = [record async for records in reader.read(stretches) for record in records]
        assert sorted((each.partition, each.offset) for each in found) == [
            (each.partition, at) for each in stretches for at in range(5, each.end)
        ]
        one = Stretch(topic=RAW.name, partition=0, start=5, end=6)
        assert [each.offset async for records in reader.read([one]) for each in records] == [5]


async def test_stopped_while_the_broker_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it at once, with what was written so far in the manifest."""
    await make_topics(settings, RAW)
    await fill(settings, 200)
    stopping, asked = asyncio.Event(), asyncio.Event()
    async with reading(settings, with_archive=False) as reader:
        parts = await plan_archive(reader, settings, [RAW], before_ms=None)

        async def never(*_: object, **__: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(reader._consumer, "getmany", never)
        writing = asyncio.create_task(write_archive(reader, settings, parts, progress=lambda *_: None, stopping=stopping))
        await asked.wait()
        stopping.set()
        async with asyncio.timeout(5):
            done = await writing
    assert (done.is_whole, done.records) == (False, 0)


async def test_a_lost_manifest_is_noticed(settings: Settings) -> None:
    """Files that nothing names are no archive, and not overwritten: the manifest is to be restored. With it all is as it was."""
    await make_topics(settings, RAW)
    await fill(settings, 200)
    await archived(settings)
    folder = partition_folder(settings.archive_folder, RAW.named(settings.topic_prefix), 0)
    kept = (folder / "manifest.json").rename(folder.parent / "kept")
    (said,) = wrong(settings)
    assert "no manifest.json: restore that from a copy" in said
    with pytest.raises(RefusedError, match=r"no manifest\.json: restore that from a copy"):
        await archived(settings)
    kept.rename(folder / "manifest.json")
    assert wrong(settings) == []


async def test_files_that_a_shorter_manifest_does_not_name_are_not_to_go(settings: Settings) -> None:
    """An old copy of the manifest leaves good files unnamed: only what others cover may go."""
    await make_topics(settings, RAW)
    await fill(settings, 200)
    await archived(settings)
    folder = partition_folder(settings.archive_folder, RAW.named(settings.topic_prefix), 0)
    manifest = read_manifest(folder)
    assert manifest is not None
    first, second, *_ = manifest.segments
    covered = folder / f"{first.start:020}-{first.end - 1:020}.jsonl.zst"
    covered.write_bytes(b"")
    write_manifest(folder, Manifest(topic=manifest.topic, topic_id=manifest.topic_id, partition=0, segments=[first]))
    said = {sentence.split(" is not in the manifest: ")[0]: sentence for sentence in wrong(settings)}
    assert said[str(covered)].endswith("it may go.")
    assert "restore manifest.json from a copy" in said[str(folder / second.file)]


async def test_another_topic_of_the_same_name(settings: Settings) -> None:
    """A topic that was deleted and made anew has other records at the same offsets: its archive is refused, and not read."""
    await make_topics(settings, RAW, INBOUND)
    await fill(settings, 50)
    await archived(settings)
    folder = partition_folder(settings.archive_folder, RAW.named(settings.topic_prefix), 0)
    manifest = read_manifest(folder)
    assert manifest is not None
    changed = Manifest(topic="raw", topic_id="another", partition=0, segments=manifest.segments)
    write_manifest(folder, changed)
    with pytest.raises(RefusedError, match="of another topic"):
        await archived(settings)
    was = await everything(settings, with_archive=False)
    await forget(settings, RAW, {0: 10})
    assert await everything(settings, with_archive=True) == {0: was[0][10:], 1: was[1]}


async def test_a_damaged_archive_is_not_replayed(settings: Settings) -> None:
    """Where the log needs it; `verify` names the file."""
    await make_topics(settings, RAW)
    await fill(settings, 100)
    await archived(settings)
    folder = partition_folder(settings.archive_folder, RAW.named(settings.topic_prefix), 1)
    path = min(_files(folder))
    path.write_bytes(path.read_bytes()[:-3])
    assert len(await everything(settings, with_archive=True)) == 2
    await forget(settings, RAW, {1: 45})
    with pytest.raises(DamagedError, match=path.name):
        await everything(settings, with_archive=True)
    (sentence,) = wrong(settings)
    assert path.name in sentence


async def test_two_at_once(settings: Settings) -> None:
    """The second one is refused, and nothing is written."""
    await make_topics(settings, RAW)
    await fill(settings, 10)
    with locked(settings.archive_folder), pytest.raises(RefusedError, match="Another process writes to the archive"):
        await archived(settings)
    assert (await archived(settings)).records == 10
