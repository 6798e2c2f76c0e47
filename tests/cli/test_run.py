"""`ottla run` and `ottla up` from outside: what a wrong start says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.servers.address import resolve_servers
from infra.servers.local import Servers
from infra.servers.state import free_ports
from infra.settings import Settings
from tests.listening import listening


def _ottla(home: Path, *arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OTTLA_HOME": str(home), **environment}
    return subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("role", ["ingress", "streams", "sinks"])
def test_role_without_servers_says_how_to_get_them(tmp_path: Path, role: str) -> None:
    """A role that is run alone, with no Kafka set and none running here, says so in one sentence."""
    ended = _ottla(tmp_path, "run", role)
    assert ended.returncode == 1
    assert ended.stderr == "There is no Kafka: run `ottla infra up`, or set OTTLA_KAFKA to one that runs.\n"


def test_unknown_role_is_wrong_usage(tmp_path: Path) -> None:
    """A role that does not exist is one sentence that names those that do."""
    ended = _ottla(tmp_path, "run", "sink")
    assert ended.returncode == 2
    assert "'ingress', 'streams', 'sinks'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_unreachable_kafka_is_one_sentence(tmp_path: Path) -> None:
    """`ottla up` with a Kafka that nobody answers for ends with 1, one sentence, and nothing started."""
    (port,) = free_ports(1)
    ended = _ottla(tmp_path, "up", OTTLA_KAFKA=f"127.0.0.1:{port}", OTTLA_CASSANDRA=f"127.0.0.1:{port}", OTTLA_PORT=str(free_ports(1)[0]))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in ended.stderr


@pytest.mark.parametrize("role", ["ingress", "streams", "sinks"])
def test_a_role_with_an_unreachable_kafka_is_one_sentence(tmp_path: Path, role: str) -> None:
    """A role that is run alone and whose Kafka nobody answers for ends with 1 and one sentence."""
    kafka, port = free_ports(2)
    ended = _ottla(tmp_path, "run", role, OTTLA_KAFKA=f"127.0.0.1:{kafka}", OTTLA_CASSANDRA=f"127.0.0.1:{kafka}", OTTLA_PORT=str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{kafka}" in ended.stderr


@pytest.mark.servers
def test_sinks_with_an_unreachable_cassandra_are_one_sentence(tmp_path: Path, servers: Servers) -> None:
    """Sinks whose Cassandra nobody answers for end with 1 and one sentence."""
    (port,) = free_ports(1)
    ended = _ottla(tmp_path, "run", "sinks", OTTLA_KAFKA=servers.kafka, OTTLA_CASSANDRA=f"127.0.0.1:{port}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Cassandra does not answer at 127.0.0.1:{port}: start it there, or correct OTTLA_CASSANDRA.\n"


@pytest.mark.servers
def test_a_taken_port_is_one_sentence(tmp_path: Path, servers: Servers) -> None:
    """An ingress whose port somebody listens on ends with 1 and one sentence."""
    with listening() as port:
        ended = _ottla(tmp_path, "run", "ingress", OTTLA_KAFKA=servers.kafka, OTTLA_CASSANDRA=servers.cassandra, OTTLA_PORT=str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in ended.stderr


@pytest.mark.parametrize("command", ["up", "run ingress", "run streams", "run sinks", "run simulator"])
@pytest.mark.parametrize(("home", "env_file"), [("file/below", ""), ("home", "OTTLA_PORT 8000")])
def test_a_home_or_env_file_that_cannot_be_used(tmp_path: Path, command: str, home: str, env_file: str) -> None:
    """A home that cannot be written and a broken `.env` end every start with 2 and one sentence."""
    (tmp_path / "file").touch()
    (tmp_path / ".env").write_text(env_file)
    ended = _ottla(tmp_path / home, *command.split(), folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("OTTLA_HOME=" if not env_file else ".env line 1")


def test_settings_win_over_local_servers(tmp_path: Path) -> None:
    """Addresses that are set are used as they are."""
    settings = Settings(home=tmp_path, kafka="a:1", cassandra="b:2", _env_file=None)
    resolved = resolve_servers(settings)
    assert (resolved.kafka, resolved.cassandra) == ("a:1", "b:2")
