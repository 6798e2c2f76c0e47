"""Bytes in files: folders have none, and neither have files that are gone."""

from pathlib import Path

from infra.bench.disk import bytes_of


def test_bytes_are_those_of_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").write_bytes(b"123")
    (tmp_path / "two").write_bytes(b"12345")
    assert bytes_of(tmp_path.rglob("*")) == 8
    assert bytes_of([tmp_path / "two", tmp_path / "gone"]) == 5
