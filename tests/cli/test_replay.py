"""`ottla replay`: options that do not go together, and missing servers, are one sentence and the right exit code."""

import pytest

from infra.cli import run_command_line


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--from", "yesterday"], 2),
        (["--from", "-1h", "--to", "-2h"], 2),
        (["--from", "-1h", "--speed", "-1"], 2),
        (["--from", "-1h", "--agent", "/no/such/file.yaml"], 2),
        (["--from", "-1h", "--resume", "x"], 2),
        (["--from", "0/10"], 1),
        (["--speed", "2", "--resume", "x"], 2),
        (["--resume", "no-such"], 3),
        (["--rebuild", "everything"], 2),
        (["--keyspace", "copy"], 2),
        (["--rebuild", "history", "--from", "-1h"], 2),
        (["--rebuild", "history", "--diff"], 2),
        (["--rebuild", "history", "--keyspace", "No;Name"], 2),
        (["--from", "-1h"], 1),
        (["--rebuild", "history"], 1),
        (["--rebuild", "history", "--execute"], 2),
        (["--execute"], 2),
        (["--rebuild", "tables", "--keyspace", "copy"], 2),
        (["--rebuild", "tables", "--from", "-1h"], 2),
        (["--rebuild", "tables"], 1),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTTLA_HOME", str(tmp_path))
    monkeypatch.setenv("OTTLA_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("OTTLA_CASSANDRA", "127.0.0.1:1")
    monkeypatch.chdir(str(tmp_path))
    assert run_command_line(["replay", *words]) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
