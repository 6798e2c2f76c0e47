"""`ottla run` and `ottla up` from outside: what a wrong start says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.servers.address import resolve_servers
from infra.servers.state import free_ports
from infra.settings import Settings


def _ottla(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", *arguments]
    variables = {**os.environ, "OTTLA_HOME": str(home), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)


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


def test_settings_win_over_local_servers(tmp_path: Path) -> None:
    """Addresses that are set are used as they are."""
    settings = Settings(home=tmp_path, kafka="a:1", cassandra="b:2", _env_file=None)
    resolved = resolve_servers(settings)
    assert (resolved.kafka, resolved.cassandra) == ("a:1", "b:2")
