"""`ottla archive` as people call it: shown before it is done, listed, verified; what cannot be done is one sentence."""

import json
from pathlib import Path

import pytest

from infra.cli import run_command_line
from infra.settings import Settings
from schemas.topics import RAW
from tests.archive.test_archive import fill, forget, make_topics
from tests.cli.test_groups import Call
from tests.cli.test_groups import ottla as ottla  # noqa: PLC0414  # a fixture


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--topic", "nothing"], (3, "ottla topics list")),
        (["--topic", "accounts"], (2, "there is nothing to archive")),
        (["--before", "yesterday"], (2, "is no time")),
        (["--records-per-file", "0"], (2, "--help")),
        (["list"], (3, "`ottla archive` makes it")),
        (["verify"], (3, "`ottla archive` makes it")),
        ([], (1, "does not answer")),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    words: list[str], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTTLA_HOME", str(tmp_path))
    monkeypatch.setenv("OTTLA_KAFKA", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    code, said = expected
    assert run_command_line(["archive", *words]) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert said in printed.err


@pytest.mark.servers
async def test_shown_done_listed_and_verified(settings: Settings, ottla: Call) -> None:
    """A dry run writes nothing; then it is there, in a folder of one's own; a second run has nothing to do; damage and loss are told."""
    await make_topics(settings, RAW)
    await fill(settings, 60)
    words = ("archive", "--topic", "raw")
    code, out, err = await ottla(settings, *words, "--dry-run")
    assert (code, err) == (0, "")
    assert "60 records would be archived" in out
    assert not settings.archive_folder.exists()
    code, out, _ = await ottla(settings, *words, "--dry-run", "-o", "json")
    assert sum(row["records"] for row in json.loads(out)) == 60
    code, out, err = await ottla(settings, *words)
    assert (code, err) == (0, "")
    assert out.startswith("Archived 60 records in 2 files of ")
    code, out, _ = await ottla(settings, *words)
    assert (code, out.partition(" in ")[0]) == (0, "Archived 0 records")
    code, out, _ = await ottla(settings, "archive", "list", "-o", "json")
    listed = json.loads(out)
    assert sum(row["records"] for row in listed) == 60
    assert {row["topic"] for row in listed} == {RAW.named(settings.topic_prefix)}
    assert await ottla(settings, "archive", "verify") == (0, "2 files with 60 records: as they were written.\n", "")
    path = next(settings.archive_folder.rglob("*.zst"))
    path.write_bytes(b"")
    code, out, err = await ottla(settings, "archive", "verify")
    assert (code, "wrong in 1 places" in out, err.count("\n")) == (1, True, 1)
    ends = {row["partition"]: int(row["offsets"].partition("-")[2]) + 1 for row in listed}
    await fill(settings, 60, first=60)
    await forget(settings, RAW, {number: end + 2 for number, end in ends.items()})
    code, out, err = await ottla(settings, *words)
    assert (code, err.startswith("4 records were deleted by retention before they were archived")) == (1, True)
