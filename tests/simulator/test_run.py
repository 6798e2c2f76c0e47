"""`ottla run simulator` is the platform as a process; what cannot be used is one sentence."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.demo.installation import free_port


def _environment(tmp_path: Path, **own: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
    return kept | {"OTTLA_HOME": str(tmp_path / "home")} | own


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "infra", "run", "simulator", *arguments]


def _read(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    body = answer.read()
    connection.close()
    return body


def test_it_serves_on_its_port_until_sigterm(tmp_path: Path) -> None:
    """It listens where OTTLA_SIMULATOR_PORT says, begins with the faults it was given, and ends cleanly."""
    port = free_port()
    faults = json.dumps({"seed": 5, "faults": {"slow": {"seconds": 2}}})
    environment = _environment(tmp_path, OTTLA_SIMULATOR_PORT=str(port), OTTLA_SIMULATOR_FAULTS=faults)
    with subprocess.Popen(_command(), env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"simulator ready" in process.stderr.readline()
            _read(port, "/readyz")
            shown = json.loads(_read(port, "/control"))
            assert (shown["seed"], set(shown["faults"])) == (5, {"slow"})
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("arguments", "own", "word"),
    [
        ([], {"OTTLA_SIMULATOR_PORT": "many"}, "OTTLA_SIMULATOR_PORT"),
        ([], {"OTTLA_SIMULATOR_FAULTS": "{"}, "OTTLA_SIMULATOR_FAULTS"),
        ([], {"OTTLA_SIMULATOR_FAULTS": '{"faults": {"gremlins": {}}}'}, "gremlins"),
        (["part"], {}, "no parts"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, arguments: list[str], own: dict[str, str], word: str) -> None:
    """A port, faults or a name that cannot be used end it at once with a sentence and exit code 2."""
    ended = subprocess.run(
        _command(*arguments), env=_environment(tmp_path, **own), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert word in ended.stderr


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """A port that is in use is said with the setting that changes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = _environment(tmp_path, OTTLA_SIMULATOR_PORT=str(taken.getsockname()[1]))
        ended = subprocess.run(_command(), env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "OTTLA_SIMULATOR_PORT" in ended.stderr


def test_it_listens_elsewhere_when_told(tmp_path: Path) -> None:
    """In a container of its own it listens on every address; here on another one of loopback's."""
    port = free_port()
    environment = _environment(tmp_path, OTTLA_SIMULATOR_PORT=str(port), OTTLA_SIMULATOR_HOST="127.0.0.2")
    with subprocess.Popen(_command(), env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"simulator ready" in process.stderr.readline()
            with socket.create_connection(("127.0.0.2", port), timeout=10):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=10)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
