"""One file of an archive: records of one partition as JSON lines, compressed by zstd, readable with `zstdcat FILE | jq`.

Keys, values and headers are text where their bytes are UTF-8, and base64 in a field of its own where they are not: either way the very same
bytes come back.
"""

import base64
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import msgspec
import zstandard

from infra.errors import OttlaError
from infra.kafka.record import Record

SUFFIX = ".jsonl.zst"
_LEVEL = 6
_HASHED_AT_ONCE = 1 << 20
_RECORDS_AT_ONCE = 2_000


class DamagedError(OttlaError):
    """A file of the archive is not what was written; the text names it."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the manifest has it: the offsets it covers (`end` is not in it), how many records they are, when they were stored.

    `sha256` is that of the compressed file, `size` its bytes. Times are milliseconds since 1970.
    """

    file: str
    start: int
    end: int
    records: int
    first_ms: int
    last_ms: int
    size: int
    sha256: str


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record; `time` is milliseconds since 1970."""

    offset: int
    time: int
    key: str = ""
    key64: str = ""
    value: str = ""
    value64: str = ""
    headers: list[list[str]] = []
    """Each is a name and its text, or a name, nothing, and base64."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


class SegmentWriter:
    """Writes one file under a name that nobody reads; `finish` makes it durable and gives it its own. Blocks: call it from a thread."""

    def __init__(self, folder: Path, *, start: int) -> None:
        self._folder = folder
        self._start = start
        self._draft = folder / f"{start:020}.part"
        self._file = _Hashed(self._draft)
        self._lines = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(
            cast("IO[bytes]", self._file), closefd=False
        )
        self._next = start
        self._first_ms = self._last_ms = 0
        self.records = 0
        self.bytes = 0
        """How many bytes of lines were written, before compression."""

    def add(self, records: Sequence[Record]) -> None:
        """Append records, which follow each other and those before."""
        for record in records:
            line = _encoder.encode(line_of(record)) + b"\n"
            self._lines.write(line)
            self.bytes += len(line)
            if not self.records:
                self._first_ms = self._last_ms = record.timestamp_ms
            self._first_ms, self._last_ms = min(self._first_ms, record.timestamp_ms), max(self._last_ms, record.timestamp_ms)
            self._next = record.offset + 1
            self.records += 1

    def finish(self, *, end: int | None = None) -> Segment:
        """Make the file durable under its name and return what the manifest says of it; it covers offsets up to `end`, not included."""
        end = self._next if end is None else end
        self._lines.close()  # type: ignore[no-untyped-call]  # the package has no type for it
        self._file.close()
        name = f"{self._start:020}-{end:020}{SUFFIX}"
        self._draft.replace(self._folder / name)
        sync_folder(self._folder)
        return Segment(
            file=name,
            start=self._start,
            end=end,
            records=self.records,
            first_ms=self._first_ms,
            last_ms=self._last_ms,
            size=self._file.size,
            sha256=self._file.digest.hexdigest(),
        )

    def abandon(self) -> None:
        """Forget what was written."""
        self._file.close()
        self._draft.unlink(missing_ok=True)


class _Hashed:
    """A new file that knows its hash and its size; closing makes it durable."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def read_segment(path: Path, segment: Segment, *, topic: str, partition: int) -> Iterator[list[Record]]:
    """Yield the records of a file in order, some at a time; DamagedError before the first one if the file is not what was written."""
    check_file(path, segment)
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as lines:
        records: list[Record] = []
        for text in io.BufferedReader(lines):
            records.append(record_of_line(_decoder.decode(text), topic=topic, partition=partition))
            if len(records) >= _RECORDS_AT_ONCE:
                yield records
                records = []
        if records:
            yield records


def check_file(path: Path, segment: Segment) -> None:
    """Raise DamagedError unless the file has the bytes that were written."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(_HASHED_AT_ONCE):
                digest.update(data)
    except OSError as error:
        raise DamagedError(f"{path} of the archive cannot be read ({error.strerror}): restore it from a copy.") from None
    if digest.hexdigest() != segment.sha256:
        raise DamagedError(f"{path} of the archive is not what was written: restore it from a copy.")


def line_of(record: Record) -> Line:
    """Return a record as it is written."""
    key, key64 = _text(record.key)
    value, value64 = _text(record.value)
    headers = []
    for name, content in record.headers:
        text, text64 = _text(content)
        headers.append([name, "", text64] if text64 else [name, text])
    return Line(offset=record.offset, time=record.timestamp_ms, key=key, key64=key64, value=value, value64=value64, headers=headers)


def record_of_line(line: Line, *, topic: str, partition: int) -> Record:
    """Return the record that was written."""
    return Record(
        topic=topic,
        partition=partition,
        offset=line.offset,
        key=_bytes(line.key, line.key64),
        value=_bytes(line.value, line.value64),
        headers=[(name, _bytes(text, *text64)) for name, text, *text64 in line.headers],
        timestamp_ms=line.time,
    )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(content: bytes) -> tuple[str, str]:
    try:
        return content.decode(), ""
    except UnicodeDecodeError:
        return "", base64.b64encode(content).decode()


def _bytes(text: str, text64: str = "") -> bytes:
    return base64.b64decode(text64) if text64 else text.encode()
