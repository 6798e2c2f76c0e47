"""What a manifest says of the offsets it has, and that it is replaced as a whole."""

from pathlib import Path

import pytest

from infra.archive.manifest import FILE, Manifest, covering, gaps, reaches_back_to, read_manifest, write_manifest
from infra.archive.segment import DamagedError, Segment


def segment(start: int, end: int) -> Segment:
    return Segment(file=f"{start}-{end}", start=start, end=end, records=end - start, first_ms=0, last_ms=0, size=1, sha256="")


ALL = [segment(10, 20), segment(20, 35), segment(40, 50), segment(50, 60)]


@pytest.mark.parametrize(
    ("log_begin", "first"),
    [
        (0, 0),
        (5, 5),
        (10, 10),
        (11, 10),
        (20, 10),
        (30, 10),
        (35, 10),
        (36, 36),
        (40, 40),
        (41, 40),
        (55, 40),
        (60, 40),
        (61, 61),
        (99, 99),
    ],
)
def test_how_far_archive_and_log_reach_back(log_begin: int, first: int) -> None:
    """As far as there is no hole: 35 to 39 were lost, and 60 is the end."""
    assert reaches_back_to(ALL, log_begin) == first
    assert reaches_back_to([], log_begin) == log_begin


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0, 10, []),
        (0, 11, [10]),
        (15, 16, [10]),
        (19, 21, [10, 20]),
        (35, 40, []),
        (34, 41, [20, 40]),
        (60, 70, []),
        (0, 99, [10, 20, 40, 50]),
    ],
)
def test_which_files_have_offsets(start: int, end: int, found: list[int]) -> None:
    assert [each.start for each in covering(ALL, start, end)] == found


def test_gaps() -> None:
    assert gaps(ALL) == [(35, 40)]


def test_it_comes_back(tmp_path: Path) -> None:
    """Nothing is there before it is written, and no draft stays."""
    assert read_manifest(tmp_path) is None
    manifest = Manifest(topic="raw", topic_id="id", partition=1)
    assert manifest.end == 0
    for each in ALL:
        manifest = manifest.with_segment(each)
        write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.end == 60
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(DamagedError, match=r"manifest\.json of the archive is damaged"):
        read_manifest(tmp_path)
