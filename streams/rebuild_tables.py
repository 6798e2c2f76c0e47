"""`ottla replay --rebuild tables`: the streams' table made again from the log, compared key by key with the one there is, and put in place.

The stage of a replay makes the rows: the real decisions with the answers of then, and every effect fenced. The group must be stopped: a
table that moves can be neither compared nor replaced. Only with `execute` anything is written, and then to the table's changelog alone.
"""

import asyncio
import base64
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from infra.archive.archive import Archive
from infra.closing import stop_at_signal, until_stopped
from infra.config_tables import ConfigTables
from infra.errors import OttlaError, RefusedError
from infra.groups.plan import refuse_live
from infra.kafka.admin import KafkaUnreachableError, check_kafka
from infra.kafka.bounded import BoundedReader, Stretch, bounded_reader
from infra.kafka.group_log import GroupLog
from infra.kafka.producer import ProduceError, Producer, settle
from infra.kafka.questions import Questions, membership_of
from infra.kafka.record import Record
from infra.retries import AwayError, Patience
from infra.settings import Settings
from schemas.codec import Headers
from schemas.events.canary import is_canary
from schemas.groups import GROUPS
from schemas.topics import CONVERSATIONS_CHANGELOG, INBOUND, OUTBOUND, RAW, SENT
from streams.raw_to_outbound import RawToOutbound
from streams.replay.answers import RecordedAnswers
from streams.replay.fence import FencedWriter
from streams.replay.folder import new_name
from streams.replay.host import Replayed
from streams.replay.moment import RecordedClock
from streams.replay.plan import Bounds, Plan
from streams.replay.recorded import note_recorded
from streams.replay.store import Store
from streams.rows import replaces
from streams.table_compare import VERDICTS, WRITTEN, UnreadableError, Verdict, is_sealed, judge, known_of, writes

Progress = Callable[[str, int, int], None]

GROUP = GROUPS["streams"]
CHANGELOG = CONVERSATIONS_CHANGELOG.name
_ANSWER_S = 10.0
_INSIDE_MAX = 2_000
_WRITTEN_AT_ONCE = 500
_KEPT = 3
_FOLDER_MODE = 0o700


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: conversations by verdict, up to 20 keys for each that is not the same, rows written, where it is kept.

    `gone` are the partitions of whose first records, in [raw] or in what was decided of them, neither log nor archive have.
    """

    verdicts: dict[str, int]
    examples: dict[str, list[str]]
    gone: list[int]
    written: int
    folder: str
    is_whole: bool = True

    @property
    def differing(self) -> int:
        """How many conversations would be written."""
        return sum(self.verdicts.get(verdict, 0) for verdict in WRITTEN)


class ForgettingWriter(FencedWriter):
    """Stands where the producer would and forgets what it is given: only the rows count here."""

    def produce(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> asyncio.Future[int]:
        """Take what the stage would write; FencedError for a topic that it never writes to."""
        if topic in {INBOUND.name, RAW.name, *(each.name for each in OUTBOUND.values())}:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            future.set_result(0)
            return future
        return super().produce(topic, key=key, value=value, headers=headers)


def run(settings: Settings, *, execute: bool, progress: Progress) -> Rebuilt:
    """Make the table again, compare it and, with `execute`, put it in the place of the one there is. Raises OttlaError."""
    return asyncio.run(rebuild_tables(settings, execute=execute, progress=progress))


async def rebuild_tables(settings: Settings, *, execute: bool, progress: Progress, stopping: asyncio.Event | None = None) -> Rebuilt:
    """Do what `run` says; ends early, and without having written anything, when `stopping` is set while the rows are made.

    RefusedError if the group is live, KafkaUnreachableError without a broker, DamagedError for an archive that is.
    """
    stopping = stopping or asyncio.Event()
    stop_at_signal(stopping)
    await check_kafka(settings, timeout_s=_ANSWER_S)
    await refuse_if_live(settings)
    folder = _make_folder(settings)
    new, old = Store(folder / "new.sqlite"), Store(folder / "old.sqlite")
    try:
        async with bounded_reader(settings, group="rebuild-tables", older=Archive(settings)) as reader:
            plan, committed, gone = await _plan(reader, settings)
            config = ConfigTables(settings)
            await config.start()
            await config.stop()
            is_whole = await make_rows(plan, new, reader, config, progress=progress, stopping=stopping)
            if not is_whole or not await read_table(reader, old, progress=progress, stopping=stopping):
                return Rebuilt(verdicts={}, examples={}, gone=gone, written=0, folder=str(folder), is_whole=False)
            await refuse_if_live(settings)
            compared = Compared(old, new, committed=committed, gone=gone)
            written = await _replace(settings, compared, folder, progress) if execute else 0
            if execute:
                await _check_written(reader, compared, folder, progress)
        return Rebuilt(verdicts=compared.counts(), examples=compared.examples, gone=gone, written=written, folder=str(folder))
    finally:
        new.close(remove=False)
        old.close(remove=False)


async def refuse_if_live(settings: Settings) -> None:
    """Raise RefusedError if the streams' group has members."""
    questions = Questions(settings, timeout_s=_ANSWER_S)
    name = GROUP.named(settings.topic_prefix)
    try:
        membership = await questions.ask(lambda client: membership_of(client, name))
    except AwayError:
        raise KafkaUnreachableError(settings.kafka) from None
    finally:
        await questions.close()
    refuse_live(name, GROUP.role, membership)


async def make_rows(
    plan: Plan, store: Store, reader: BoundedReader, config: ConfigTables, *, progress: Progress, stopping: asyncio.Event
) -> bool:
    """Put the rows that the plan's records of [raw] lead to into the store; return whether all were read."""
    total, done = sum(each.length for each in plan.recorded), 0
    bounds = plan.bounds()
    progress("reading what was", 0, total)
    async for records in until_stopped(reader.read(plan.recorded), stopping):
        for record in records:
            note_recorded(record, store, bounds)
        done += len(records)
        progress("reading what was", done, total)
        store.commit()
    if stopping.is_set():
        return False
    stage = RawToOutbound(
        table=store,
        producer=ForgettingWriter(store),
        config=config,
        answer=RecordedAnswers(store).answer,
        clock=RecordedClock(),
        default_kind="offline",
        patience=Patience(tries=1),
    )
    replayed = Replayed(stage, store, plan, lambda key: not is_canary(key))
    made, wanted = 0, sum(each.length for each in plan.stretches())

    def advanced(count: int) -> None:
        nonlocal made
        made += count
        progress("making rows", made, wanted)

    progress("making rows", 0, wanted)
    is_whole = await reader.run(plan.stretches(), replayed.handle, limit=_INSIDE_MAX, advanced=advanced, stopping=stopping)
    store.commit()
    return is_whole


async def read_table(reader: BoundedReader, store: Store, *, progress: Progress, stopping: asyncio.Event) -> bool:
    """Put the rows of the changelog into the store as recovery does: of two rows of a key the one with the higher offset done.

    Returns whether all were read; `stopping` ends it early.
    """
    begins, ends = await reader.beginnings(CHANGELOG), await reader.ends(CHANGELOG)
    stretches = [Stretch(topic=CHANGELOG, partition=number, start=begins[number], end=end) for number, end in ends.items()]
    total, done = sum(each.length for each in stretches), 0
    progress("reading the table", 0, total)
    async for records in until_stopped(reader.read(stretches, gone=None), stopping):  # compaction leaves holes
        for record in records:
            await keep_newest(store, record)
        done += len(records)
        progress("reading the table", done, total)
        store.commit()
    if stopping.is_set():
        return False
    progress("reading the table", total, total)
    return True


async def keep_newest(store: Store, record: Record) -> None:
    """Put one record of the changelog into the store; an empty one forgets its key."""
    if not record.value or replaces(record.value, store.get(record.partition, record.key)):
        await store.put(record.partition, record.key, record.value or None)


class Compared:
    """Two stores compared, conversation by conversation."""

    def __init__(self, old: Store, new: Store, *, committed: dict[int, int], gone: Sequence[int]) -> None:
        self.old, self.new = old, new
        self._committed, self._gone = committed, frozenset(gone)
        self._verdicts: Counter[Verdict] = Counter()
        self.examples: dict[str, list[str]] = {}
        for partition, key, verdict in self.conversations():
            self._verdicts[verdict] += 1
            if verdict != "same" and len(examples := self.examples.setdefault(verdict, [])) < 20:  # noqa: PLR2004
                examples.append(f"{partition}/{key.decode('utf-8', 'replace')}")

    @property
    def differing(self) -> int:
        """How many conversations are written where the table is replaced."""
        return sum(self._verdicts[verdict] for verdict in WRITTEN)

    def counts(self) -> dict[str, int]:
        """Return how many conversations have each verdict."""
        return {verdict: self._verdicts[verdict] for verdict in VERDICTS}

    def conversations(self) -> Iterator[tuple[int, bytes, Verdict]]:
        """Yield partition, key and verdict of every conversation that either store has."""
        for partition, key in self.new.row_keys():
            if not is_sealed(key):
                yield partition, key, self._verdict(partition, key)
        for partition, key in self.old.row_keys():
            if not is_sealed(key) and self.new.get(partition, key) is None:
                yield partition, key, self._verdict(partition, key)

    def _verdict(self, partition: int, key: bytes) -> Verdict:
        new = known_of(key, partial(self.new.get, partition))
        try:
            old = known_of(key, partial(self.old.get, partition))
        except UnreadableError:
            return "unreadable" if new is not None else "unexplained"
        return judge(old, new, committed=self._committed.get(partition, 0), is_whole=partition not in self._gone)


async def _plan(reader: BoundedReader, settings: Settings) -> tuple[Plan, dict[int, int], list[int]]:
    """Return what is read, how far the streams have committed each partition, and the partitions whose first records are gone.

    Whose [raw] is whole and whose outputs are not is among them: to what is not there any more the stage would answer something else.
    """
    begins = await reader.beginnings(RAW.name)
    log = GroupLog(settings, group=GROUP.name)
    try:
        committed = {number: await log.committed(RAW.name, number) for number in begins}
    except AwayError:
        raise KafkaUnreachableError(settings.kafka) from None
    finally:
        await log.close()
    raw = [
        Bounds(partition=number, start=min(begin, committed[number]), first=0, last=committed[number], end=committed[number])
        for number, begin in sorted(begins.items())
    ]
    gone = {number for number, begin in begins.items() if begin > 0}
    recorded: list[Stretch] = []
    for topic in (INBOUND, SENT, *OUTBOUND.values()):
        starts, ends = await reader.beginnings(topic.name), await reader.ends(topic.name)
        recorded += [Stretch(topic=topic.name, partition=number, start=starts[number], end=end) for number, end in sorted(ends.items())]
        gone |= {number for number, begin in starts.items() if begin > 0}
    plan = Plan(id="tables", made_at=0, from_ms=0, to_ms=0, raw=raw, recorded=recorded)
    return plan, committed, sorted(gone)


async def _replace(settings: Settings, compared: Compared, folder: Path, progress: Progress) -> int:
    """Write what differs to the changelog, after the rows that it replaces were kept in a file; return how many rows were written."""
    written = 0
    producer = Producer(settings, client_id=f"{settings.worker}-rebuild-tables")
    await producer.start()
    try:
        with (folder / "replaced.jsonl").open("wb") as replaced:
            for some in _in_pieces(_wanted_rows(compared), _WRITTEN_AT_ONCE):
                await refuse_if_live(settings)
                for partition, key, _ in some:
                    replaced.write(_kept_line(partition, key, compared.old.get(partition, key)))
                replaced.flush()
                await settle([producer.produce(CHANGELOG, key=key, value=value, partition=number) for number, key, value in some])
                written += len(some)
                progress("writing rows", written, max(written, compared.differing))
        await refuse_if_live(settings)
    except RefusedError as error:
        raise RefusedError(f"{str(error).rstrip('.')}; {written} rows were written, and doing it again finishes it.") from None
    except ProduceError as error:
        raise OttlaError(f"The table's changelog does not take the rows ({str(error).rstrip('.')}): do it again, it goes on.") from None
    finally:
        await producer.stop()
    return written


def _wanted_rows(compared: Compared) -> Iterator[tuple[int, bytes, bytes | None]]:
    for partition, key, verdict in compared.conversations():
        if verdict in WRITTEN:
            for name, value in writes(key, old=partial(compared.old.get, partition), new=partial(compared.new.get, partition)):
                yield partition, name, value


def _in_pieces(rows: Iterator[tuple[int, bytes, bytes | None]], size: int) -> Iterator[list[tuple[int, bytes, bytes | None]]]:
    while piece := list(islice(rows, size)):
        yield piece


def _kept_line(partition: int, key: bytes, before: bytes | None) -> bytes:
    """Return a line of the file in which rows are kept that are replaced."""
    key64, value64 = (base64.b64encode(each).decode() if each is not None else None for each in (key, before))
    return msgspec.json.encode({"partition": partition, "key64": key64, "value64": value64}) + b"\n"


async def _check_written(reader: BoundedReader, compared: Compared, folder: Path, progress: Progress) -> None:
    """Read the changelog once more; OttlaError unless every row that was to be written is what a worker would restore."""
    store = Store(folder / "after.sqlite")
    try:
        await read_table(reader, store, progress=progress, stopping=asyncio.Event())  # what was written is looked at in any case
        for partition, key, verdict in compared.conversations():
            if verdict in WRITTEN and writes(key, old=partial(store.get, partition), new=partial(compared.new.get, partition)):
                raise OttlaError(
                    f"Row {partition}/{key.decode('utf-8', 'replace')} is not what was written: do it again with the group stopped."
                )
    finally:
        store.close(remove=True)


def _make_folder(settings: Settings) -> Path:
    among = settings.home / "tables"
    path = among / new_name(time.time_ns() // 1_000_000)
    try:
        path.mkdir(parents=True, mode=_FOLDER_MODE)
        for old in sorted(each for each in among.iterdir() if each.is_dir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OttlaError(f"{path} cannot be written: {error.strerror}.") from None
    return path
