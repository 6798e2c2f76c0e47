"""The frame of the command line: what each kind of error prints and which exit code it has."""

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

import infra.cli
from infra.errors import NotFoundError, OttlaError, RefusedError, UsageError


def _command(error: BaseException | None = None) -> click.Command:
    @click.command("probe")
    def probe() -> None:
        if error:
            raise error

    return probe


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("OTTLA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ottla", "probe"])
    return monkeypatch


@pytest.mark.parametrize(
    ("error", "code"),
    [(OttlaError("Do this."), 1), (UsageError("Do this."), 2), (NotFoundError("Do this."), 3), (RefusedError("Do this."), 4)],
)
def test_foreseen_error_is_one_sentence_and_its_code(
    fails: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OttlaError, code: int
) -> None:
    """An error that a person can act on prints its sentence, nothing else, and exits with its own code."""
    fails.setattr(infra.cli.ottla, "get_command", lambda *_: _command(error))
    assert infra.cli.run_command_line(["probe"]) == code
    assert capsys.readouterr() == ("", "Do this.\n")


def test_unforeseen_error_is_a_sentence_and_a_file(fails: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A mistake of ours prints one line that names the file with its traceback, and exits with 1."""
    fails.setattr(infra.cli.ottla, "get_command", lambda *_: _command(ZeroDivisionError("odd")))
    assert infra.cli.run_command_line(["probe"]) == 1
    log = tmp_path / "logs" / "ottla-error.log"
    assert capsys.readouterr().err == f"This should not happen: ZeroDivisionError: odd ({log} has the details).\n"
    assert "Traceback" in log.read_text()


def test_what_is_kept_of_an_unforeseen_error_is_nobodys_business(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the words of the command line nor those in the error are written down, and nobody else may read the file."""
    fails.setattr(infra.cli.ottla, "get_command", lambda *_: _command(ValueError("cannot read 'my blood test is back'")))
    words = ["send", "16505550001", "my blood test is back", "--tenant=acme", "--now"]
    fails.setattr(sys, "argv", ["ottla", *words])
    assert infra.cli.run_command_line(["probe"]) == 1
    log = tmp_path / "logs" / "ottla-error.log"
    written = log.read_text()
    assert " ottla send ... ... --tenant --now\n" in written
    assert "ValueError: cannot read '***'" in written
    assert not any(word in written for word in ("blood", "16505550001", "acme"))
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_link_in_place_of_the_file_is_not_followed(fails: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody else may have put it there."""
    fails.setattr(infra.cli.ottla, "get_command", lambda *_: _command(ZeroDivisionError("odd")))
    fails.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "ottla-error.log").symlink_to(tmp_path / "precious")
    assert infra.cli.run_command_line(["probe"]) == 1
    assert not (tmp_path / "precious").exists()


def test_traceback_is_shown_to_who_asks_for_it(fails: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With OTTLA_LOG_LEVEL=debug the traceback goes to the terminal."""
    fails.setattr(infra.cli.ottla, "get_command", lambda *_: _command(ZeroDivisionError("odd")))
    fails.setenv("OTTLA_LOG_LEVEL", "debug")
    assert infra.cli.run_command_line(["probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["no-such-command"], ["infra", "no-such-command"], ["infra", "status", "--no-such-option"]])
def test_wrong_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """A command or option that does not exist is one line that points to the help, with exit code 2."""
    assert infra.cli.run_command_line(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("No such ")
    assert said.count("\n") == 1
    assert "--help` shows" in said


def test_help_names_every_command() -> None:
    """Each module of the package that defines a command is listed."""
    listed = infra.cli.ottla.list_commands(click.Context(infra.cli.ottla))
    assert "infra" in listed
    assert len(listed) == len(set(listed))


def test_only_the_called_command_is_imported() -> None:
    """Calling one command imports no other, nor any role or client."""
    program = (
        "import sys, infra.cli; infra.cli.run_command_line(['infra', 'status', '--help']); "
        "print(sorted(m for m in sys.modules if m.startswith('infra.cli.') or m in ('faust', 'aiokafka', 'cassandra')))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "['infra.cli.infra']"


def test_broken_env_file_is_one_sentence(tmp_path: Path) -> None:
    """A `.env` that nobody could mean stops every command with one sentence and exit code 2, without a traceback."""
    (tmp_path / ".env").write_text("OTTLA_PORT 8000\n")
    command = [sys.executable, "-m", "infra", "infra", "status"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(".env line 1")
    assert ended.stderr.count("\n") == 1
