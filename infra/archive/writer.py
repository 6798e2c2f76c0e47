"""Writes archives: what the log has and the archive does not, partition by partition, file by file.

A file becomes durable under its name before the manifest names it, and only what the manifest names counts. So a run that is killed leaves
at most a file that nobody reads, and the next one goes on behind the last named one: nothing is there twice, nothing is missing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from infra.archive.archive import locked, partition_folder
from infra.archive.manifest import FILE, Manifest, files_of, read_manifest, write_manifest
from infra.archive.segment import SegmentWriter
from infra.closing import until_stopped
from infra.errors import OttlaError, RefusedError
from infra.kafka.bounded import BoundedReader, Stretch
from infra.kafka.record import Record
from infra.kafka.topic_ids import topic_ids
from infra.settings import Settings
from schemas.topics import INBOUND, OUTBOUND, RAW, SENT, STATUS, Topic

ARCHIVED = (RAW, STATUS, INBOUND, *OUTBOUND.values(), SENT)
"""What is kept unless topics are named: all that a replay or the rebuilding of history reads."""

RECORDS_PER_FILE = 100_000
_LINES_PER_FILE_BYTES = 256 << 20

Progress = Callable[[str, int, int], None]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about one partition: offsets `start` to `end` (not included) are archived, `lost` ones before them cannot be.

    `first` and `next` are what the archive begins with and ends before now; both 0 where it has nothing.
    """

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int
    lost: int = 0

    @property
    def stretch(self) -> Stretch:
        """What is read."""
        return Stretch(topic=self.topic, partition=self.partition, start=self.start, end=self.end)


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: records, files and their bytes; `is_whole` unless it was stopped before the end.

    `gone` is what retention deleted after the plan was made and before it was read.
    """

    records: int
    files: int
    size: int
    is_whole: bool
    gone: list[Stretch] = []


def part_of(
    topic: str, topic_id: str, partition: int, *, begin: int, until: int, end: int, manifest: Manifest | None, folder: Path
) -> Part:
    """Return what is to be done about a partition whose log goes from `begin` to `end` and is to be archived up to `until`.

    RefusedError if the archive there is of another topic of this name, or has files and has lost its manifest.
    """
    # Runs that were killed before they wrote one have left files that begin alike.
    if manifest is None and len({path.name.partition("-")[0] for path in files_of(folder)}) > 1:
        raise RefusedError(f"{folder} has files and no {FILE}: restore that from a copy, or move the folder away.")
    archived = manifest.end if manifest is not None else 0
    if manifest is not None and (manifest.topic_id != topic_id or archived > end):
        raise RefusedError(
            f"{folder} is of another topic [{topic}] than Kafka has now, with other offsets: name another folder with OTTLA_ARCHIVE."
        )
    start = max(begin, archived)
    lost = max(0, begin - archived) if manifest is not None and manifest.segments else 0
    return Part(topic=topic, topic_id=topic_id, partition=partition, start=start, end=max(start, until), lost=lost)


async def plan_archive(reader: BoundedReader, settings: Settings, topics: Collection[Topic], *, before_ms: int | None) -> list[Part]:
    """Return what is to be done about each partition of the topics: up to the first record stored at `before_ms` or later, None: all.

    The reader must be of the log alone. KafkaUnreachableError, TopicsError, RefusedError, DamagedError.
    """
    ids = await topic_ids(settings, [topic.named(settings.topic_prefix) for topic in topics])
    parts: list[Part] = []
    for topic in topics:
        name = topic.named(settings.topic_prefix)
        begins, ends = await reader.beginnings(topic.name), await reader.ends(topic.name)
        untils = ends if before_ms is None else await reader.since(topic.name, before_ms)
        for number, end in sorted(ends.items()):
            folder = partition_folder(settings.archive_folder, name, number)
            parts.append(
                part_of(
                    topic.name,
                    ids[name],
                    number,
                    begin=begins[number],
                    until=min(untils[number], end),
                    end=end,
                    manifest=read_manifest(folder),
                    folder=folder,
                )
            )
    return parts


async def write_archive(
    reader: BoundedReader,
    settings: Settings,
    parts: Sequence[Part],
    *,
    progress: Progress,
    stopping: asyncio.Event,
    records_per_file: int = RECORDS_PER_FILE,
) -> Archived:
    """Archive the parts one after the other, until done or `stopping` is set; RefusedError if another process does, OttlaError."""
    total, done = sum(part.stretch.length for part in parts), 0
    records = files = size = 0
    gone: list[Stretch] = []
    progress("archiving", 0, total)
    with locked(settings.archive_folder):
        for part in parts:
            if stopping.is_set():
                break
            folder = partition_folder(settings.archive_folder, settings.topic_prefix + part.topic, part.partition)
            writing = _Writing(folder, part, records_per_file)
            try:
                async for batch in until_stopped(reader.read([part.stretch], gone=writing.leave_out), stopping):
                    await asyncio.to_thread(writing.add, batch)
                    done += len(batch)
                    progress("archiving", done, total)
                await asyncio.to_thread(writing.finish, is_whole=not stopping.is_set())
            except OSError as error:
                raise OttlaError(f"{folder} cannot be written ({error.strerror}): make room there, then archive again.") from None
            finally:
                writing.abandon()
            records, files, size = records + writing.records, files + writing.files, size + writing.size
            gone += writing.gone
    return Archived(records=records, files=files, size=size, is_whole=not stopping.is_set(), gone=gone)


def with_gone(parts: Sequence[Part], gone: Sequence[Stretch]) -> list[Part]:
    """Return the parts with what was deleted meanwhile counted as lost."""
    lost: Counter[tuple[str, int]] = Counter()
    for each in gone:
        lost[each.topic, each.partition] += each.length
    return [msgspec.structs.replace(part, lost=part.lost + lost[part.topic, part.partition]) for part in parts]


class _Writing:
    """The files of one partition; blocks."""

    def __init__(self, folder: Path, part: Part, records_per_file: int) -> None:
        self._folder, self._part, self._records_per_file = folder, part, records_per_file
        # Read again under the lock: another run may have ended between the plan and now.
        known = read_manifest(folder)
        self._manifest = known or Manifest(topic=part.topic, topic_id=part.topic_id, partition=part.partition)
        if self._manifest.end > part.start:
            raise RefusedError(f"{folder} was written to meanwhile: archive again.")
        self._file: SegmentWriter | None = None
        self._next = part.start
        self.records = self.files = self.size = 0
        self.gone: list[Stretch] = []

    def leave_out(self, gone: Stretch) -> None:
        """Go on behind what is not there to be archived any more, with a file of its own: what a file covers, it has."""
        self._close(self._next)
        self._next = gone.end
        self.gone.append(gone)

    def add(self, batch: Sequence[Record]) -> None:
        while batch:
            if self._file is None:
                self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
                for left in self._folder.glob("*.part"):
                    left.unlink()
                self._file = SegmentWriter(self._folder, start=self._next)
            room = self._records_per_file - self._file.records
            self._file.add(batch[:room])
            self._next, batch = batch[:room][-1].offset + 1, batch[room:]
            if self._file.records >= self._records_per_file or self._file.bytes >= _LINES_PER_FILE_BYTES:
                self._close(self._next)

    def finish(self, *, is_whole: bool) -> None:
        """Close the last file; where the whole part was read it covers it to its end, also if there are no records any more."""
        if self._file is not None:
            self._close(self._part.end if is_whole else self._next)

    def abandon(self) -> None:
        """Forget what is not in the manifest."""
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _close(self, end: int) -> None:
        file = self._file
        if file is None:
            return
        segment = file.finish(end=end)
        self._file = None
        self._manifest = self._manifest.with_segment(segment)
        write_manifest(self._folder, self._manifest)
        self.records, self.files, self.size = self.records + segment.records, self.files + 1, self.size + segment.size
