"""The Faust application as it is set up."""

import socket
from pathlib import Path

import pytest

from infra.settings import Settings
from streams.app import create_app


async def test_a_worker_is_the_same_member_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name in an assignment is made from its identity alone: a container that is made again has another host name."""

    def url(worker: str, machine: str) -> str:
        monkeypatch.setattr(socket, "gethostname", lambda: machine)
        settings = Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", worker=worker, _env_file=None)
        return str(create_app(settings).conf.canonical_url)

    assert url("ottla-streams-1", "3f2a") == url("ottla-streams-1", "9b1c")
    assert url("ottla-streams-1", "3f2a") != url("ottla-streams-2", "3f2a")
