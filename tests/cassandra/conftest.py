"""A keyspace with all tables for the tests of history; each test uses tenants and conversations of its own in it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.cassandra.session import Cassandra, Row
from infra.servers.local import Servers
from infra.settings import Settings

_KEYSPACE = f"h{uuid.uuid4().hex[:8]}"


async def _make(settings: Settings) -> None:
    await (await Cassandra.connect(settings)).close()


@pytest.fixture(scope="session")
def history_settings(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Make a keyspace, the same one for all folders that import this, and give settings whose keyspace has all tables."""
    home = tmp_path_factory.mktemp("history")
    settings = Settings(home=home, kafka=servers.kafka, cassandra=servers.cassandra, keyspace=_KEYSPACE, _env_file=None)
    asyncio.run(_make(settings))
    return settings


@pytest.fixture
async def cassandra(history_settings: Settings) -> AsyncIterator[Cassandra]:
    """Connect to that keyspace."""
    session = await Cassandra.connect(history_settings)
    yield session
    await session.close()


@pytest.fixture
def tenant() -> str:
    """Name a tenant that no other test has."""
    return f"tenant-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Make a folder of two small migrations."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.cql").write_text("-- one; with a semicolon\nCREATE TABLE IF NOT EXISTS first (id int PRIMARY KEY);\n")
    (folder / "0002_second.cql").write_text("CREATE TABLE IF NOT EXISTS second (id int PRIMARY KEY);\n")
    return folder


@pytest.fixture
def statements(cassandra: Cassandra, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep every statement that is executed."""
    kept: list[str] = []
    execute = cassandra.execute

    async def counted(statement: str, *arguments: object) -> list[Row]:
        kept.append(statement)
        return await execute(statement, *arguments)  # type: ignore[arg-type]  # whatever it is given

    monkeypatch.setattr(cassandra, "execute", counted)
    return kept
