"""A keyspace with all tables for the tests of history; each test uses tenants and conversations of its own in it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.cassandra.session import Cassandra
from infra.servers.local import Servers
from infra.settings import Settings


async def _make(settings: Settings) -> None:
    await (await Cassandra.connect(settings)).close()


async def _drop(settings: Settings) -> None:
    cassandra = await Cassandra.connect(settings)
    await cassandra.execute(f"DROP KEYSPACE {settings.keyspace}", timeout_s=60)
    await cassandra.close()


@pytest.fixture(scope="session")
def history_settings(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Make a keyspace and give settings whose keyspace has all tables."""
    settings = Settings(
        home=tmp_path_factory.mktemp("history"),
        kafka=servers.kafka,
        cassandra=servers.cassandra,
        keyspace=f"h{uuid.uuid4().hex[:8]}",
        _env_file=None,
    )
    asyncio.run(_make(settings))
    yield settings
    asyncio.run(_drop(settings))


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
