"""The demo as a user runs it: real servers, a real page, nothing left behind; and the sentences of a bad start."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.demo.installation import demo_environment


def _demo(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
    environment |= {"OTTLA_HOME": str(home)}
    command = [sys.executable, "-m", "infra", "demo", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.servers
def test_the_demo_ends_by_itself_with_every_promise_kept(tmp_path: Path) -> None:
    """A short demo exits 0, says so, writes its page and leaves no process behind."""
    ended = _demo("--conversations", "10", home=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "answered exactly once and in order, and all of it is in Cassandra" in " ".join(ended.stdout.split())
    assert (tmp_path / "demo" / "demo.html").stat().st_size > 10_000
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert left == []


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """A home that is a file ends the demo at once with a sentence and exit code 2."""
    (tmp_path / "file").touch()
    ended = _demo("--home", str(tmp_path / "file" / "demo"), home=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "--home" in ended.stderr


def test_its_installation_is_its_own(tmp_path: Path) -> None:
    """Nothing of the caller's settings leads the demo to another installation, a paid model or the real platform."""
    theirs = {"PATH": "/bin", "OTTLA_KAFKA": "prod:9092", "OTTLA_AI_URL": "https://paid", "OTTLA_WHATSAPP_API": "https://real"}
    environment = demo_environment(theirs, home=tmp_path, platform_port=1234)
    assert environment["PATH"] == "/bin"
    assert environment["OTTLA_HOME"] == str(tmp_path)
    assert environment["OTTLA_WHATSAPP_API"] == "http://127.0.0.1:1234/v25.0"
    assert not {"OTTLA_KAFKA", "OTTLA_AI_URL"} & environment.keys()
