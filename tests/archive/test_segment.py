"""Files of an archive: the very same records come back, and a file that is not what was written is never read."""

import subprocess
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from infra.archive.segment import DamagedError, Segment, SegmentWriter, line_of, read_segment, record_of_line
from infra.kafka.record import Record

ANY = st.binary(max_size=30) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))
RECORDS = st.builds(
    Record,
    topic=st.just("raw"),
    partition=st.just(3),
    offset=st.integers(0, 1 << 62),
    key=ANY,
    value=ANY,
    headers=st.lists(st.tuples(st.text(max_size=10).filter(lambda text: text.isprintable()), ANY), max_size=4),
    timestamp_ms=st.integers(-1, 1 << 50),
)


def record(offset: int, *, value: bytes = b"{}", time_ms: int = 0) -> Record:
    return Record("raw", 3, offset, b"wa:1:2", value, [("ce_id", b"x")], time_ms)


def written(folder: Path, records: list[Record], *, end: int | None = None) -> Segment:
    writer = SegmentWriter(folder, start=records[0].offset)
    writer.add(records[:1])
    writer.add(records[1:])
    return writer.finish(end=end)


@given(RECORDS)
def test_any_record_comes_back(one: Record) -> None:
    """Whatever bytes its key, value and headers have, also none at all."""
    line = msgspec.json.decode(msgspec.json.encode(line_of(one)), type=type(line_of(one)))
    assert record_of_line(line, topic="raw", partition=3) == one


def test_a_file_comes_back(tmp_path: Path) -> None:
    """Also one of many records; the manifest says what is in it, nobody reads it before it is finished, and `zstdcat` shows it."""
    records = [record(offset, value=b'{"text":"gr\xc3\xbc\xc3\x9fe\\n"}', time_ms=1_000 + offset) for offset in range(7, 5_007)]
    segment = written(tmp_path, records, end=5_010)
    assert (segment.start, segment.end, segment.records, segment.first_ms, segment.last_ms) == (7, 5_010, 5_000, 1_007, 6_006)
    assert [path.name for path in tmp_path.iterdir()] == [segment.file]
    batches = list(read_segment(tmp_path / segment.file, segment, topic="raw", partition=3))
    assert len(batches) > 1
    assert [each for batch in batches for each in batch] == records
    first = zstandard.ZstdDecompressor().stream_reader((tmp_path / segment.file).read_bytes()).read(1000).splitlines()[0]
    assert msgspec.json.decode(first)["value"] == '{"text":"grüße\\n"}'
    assert segment.size == (tmp_path / segment.file).stat().st_size < 50_000


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """They are base64 in fields of their own, so that nobody takes them for text."""
    odd = Record("raw", 3, 0, b"\xff", b"\xed\xa0\x80", [("h", b"\x80"), ("empty", b"")], 5)
    segment = written(tmp_path, [odd])
    assert list(read_segment(tmp_path / segment.file, segment, topic="raw", partition=3)) == [[odd]]
    line = msgspec.json.decode(zstandard.ZstdDecompressor().stream_reader((tmp_path / segment.file).read_bytes()).read())
    assert line == {"offset": 0, "time": 5, "key64": "/w==", "value64": "7aCA", "headers": [["h", "", "gA=="], ["empty", ""]]}


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_not_read(tmp_path: Path, how: str) -> None:
    """Not one record of it, and the sentence names it."""
    segment = written(tmp_path, [record(offset) for offset in range(100)])
    path = tmp_path / segment.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "flipped" else path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=f"{segment.file} of the archive .* restore it from a copy") as caught:
        next(read_segment(path, segment, topic="raw", partition=3))
    assert caught.value.exit_code == 1


def test_what_is_abandoned_leaves_nothing(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, start=0)
    writer.add([record(0)])
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_read_without_us(tmp_path: Path) -> None:
    """By the program of the format, where it is installed."""
    segment = written(tmp_path, [record(0), record(1)])
    try:
        shown = subprocess.run(["zstdcat", tmp_path / segment.file], capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("zstd is not installed")
    assert [msgspec.json.decode(line)["offset"] for line in shown.splitlines()] == [0, 1]
