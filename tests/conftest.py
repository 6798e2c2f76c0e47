"""What tests share: real servers once per session, and settings of one test's own on them."""

import asyncio
import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from infra.servers.local import Servers, start_servers
from infra.settings import Settings
from tests.containers import VARIABLE, ContainersError, chosen_source, engine_answers, servers_in_containers
from tests.keyspaces import Keyspaces

_LONG = (
    "test_short.py",
    "test_crash_points.py",
    "test_safeguards.py",
    "test_bodies.py",
    "test_day.py",
    "test_replay.py",
    "test_up.py",
    "test_dead_letters.py",
    "test_browser.py",
)
"""Files that take minutes: begun first, so that the workers end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files in front; the order inside each file stays."""
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real Kafka and Cassandra: those of OTTLA_KAFKA and OTTLA_CASSANDRA, else containers where a Docker engine answers, else local ones.

    OTTLA_TEST_SERVERS=containers or =local leaves no choice between the latter two.
    """
    with contextlib.ExitStack() as stack:
        yield _found_or_started(stack, tmp_path_factory.mktemp("servers"))


def _found_or_started(stack: contextlib.ExitStack, home: Path) -> Servers:
    kafka, cassandra, wanted = (os.environ.get(name, "") for name in ("OTTLA_KAFKA", "OTTLA_CASSANDRA", VARIABLE))
    source = chosen_source(kafka=kafka, cassandra=cassandra, wanted=wanted, engine_answers=engine_answers)
    if source == "given":
        return Servers(home, kafka, cassandra)
    if source == "containers":
        try:
            return stack.enter_context(servers_in_containers(home))
        except ContainersError as error:
            if wanted:
                raise
            # An engine without the images, and nowhere to get them from, is no reason not to test.
            sys.stderr.write(f"{error}\nThe tests run on local servers instead.\n")
    return stack.enter_context(_local_servers(home))


@contextlib.contextmanager
def _local_servers(home: Path) -> Iterator[Servers]:
    started = asyncio.run(start_servers(_settings(home), die_with_parent=True))
    try:
        yield started
    finally:
        asyncio.run(started.stop())
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of the person who runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith(("OTTLA_", "OTEL_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a command that ran in this process did to the log, and let no logger keep it."""
    usual, configure = structlog.get_config(), structlog.configure
    monkeypatch.setattr(structlog, "configure", lambda **words: configure(**{**words, "cache_logger_on_first_use": False}))
    yield
    configure(**usual)


@pytest.fixture(scope="session")
def keyspaces(servers: Servers) -> Iterator[Keyspaces]:
    """Give keyspaces on the real Cassandra."""
    there = Keyspaces(servers.cassandra)
    yield there
    there.close()


@pytest.fixture
def settings(servers: Servers, keyspaces: Keyspaces, tmp_path: Path) -> Iterator[Settings]:
    """Give settings on the real servers with topics and home of this test alone, and a keyspace without a row."""
    keyspace = keyspaces.take()
    yield settings_on(servers, tmp_path).model_copy(update={"keyspace": keyspace})
    keyspaces.give_back(keyspace)


@pytest.fixture
def new_settings(servers: Servers, tmp_path: Path) -> Settings:
    """Give settings whose keyspace nobody has made yet."""
    return settings_on(servers, tmp_path)


def settings_on(servers: Servers, home: Path) -> Settings:
    """Return settings with topics and keyspace that nobody else has."""
    own = uuid.uuid4().hex[:8]
    return _settings(home, kafka=servers.kafka, cassandra=servers.cassandra).model_copy(
        update={"topic_prefix": f"t{own}-", "keyspace": f"t{own}"}
    )


def _settings(home: Path, *, kafka: str = "", cassandra: str = "") -> Settings:
    return Settings(
        home=home,
        kafka=kafka,
        cassandra=cassandra,
        worker="test",
        whatsapp_app_secret=SecretStr("test-app-secret"),
        whatsapp_verify_token=SecretStr("test-verify-token"),
        whatsapp_token=SecretStr("test-token"),
        admin_key=SecretStr("test-admin-key"),
        _env_file=None,
    )
