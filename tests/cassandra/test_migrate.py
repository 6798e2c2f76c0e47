"""Migrations are applied once, in order, by one process at a time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infra.cassandra.migrate import MIGRATIONS, MigrationError, migrate, read_migrations
from infra.cassandra.session import Cassandra, CassandraAwayError, Row
from infra.settings import Settings


def test_our_own_migrations_can_be_repeated() -> None:
    """A process may die in the middle of a migration: every statement says IF NOT EXISTS."""
    migrations = read_migrations()
    assert [path.stem for path in sorted(MIGRATIONS.glob("*.cql"))] == [migration.name for migration in migrations]
    assert all("IF NOT EXISTS" in statement for migration in migrations for statement in migration.statements)


def test_comments_are_no_statements(migrations: Path) -> None:
    """A semicolon in a comment ends nothing."""
    first, second = read_migrations(migrations)
    assert first.statements == ("CREATE TABLE IF NOT EXISTS first (id int PRIMARY KEY)",)
    assert second.name == "0002_second"


def test_a_number_used_twice_is_refused(migrations: Path) -> None:
    """Two files with one number have no order."""
    (migrations / "0002_other.cql").write_text("")
    with pytest.raises(MigrationError, match="number 0002"):
        read_migrations(migrations)


def test_a_file_without_a_number_is_refused(migrations: Path) -> None:
    """A file that would silently come last, or never, is named in the error."""
    (migrations / "more.cql").write_text("")
    with pytest.raises(MigrationError, match=r"more\.cql"):
        read_migrations(migrations)


@pytest.mark.servers
async def test_applied_once_and_in_order(new_settings: Settings, cassandra: Cassandra, migrations: Path) -> None:
    """The second call finds nothing to do, and a later file is applied alone."""
    assert await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations) == ["0001_first", "0002_second"]
    assert await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations) == []
    (migrations / "0003_third.cql").write_text("ALTER TABLE second ADD IF NOT EXISTS more text;")
    assert await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations) == ["0003_third"]
    await cassandra.execute("INSERT INTO second (id, more) VALUES (1, 'x')")


@pytest.mark.servers
async def test_a_changed_file_is_refused_in_a_sentence(new_settings: Settings, cassandra: Cassandra, migrations: Path) -> None:
    """What was applied is history: an edit would leave installations different from one another."""
    await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations)
    (migrations / "0001_first.cql").write_text("CREATE TABLE IF NOT EXISTS first (id text PRIMARY KEY);")
    with pytest.raises(MigrationError, match=r"^Migration 0001_first was changed after it was applied: .*\.$"):
        await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations)


@pytest.mark.servers
async def test_several_at_once_apply_each_once(new_settings: Settings) -> None:
    """Roles that start together all end with every table, and only one of them applies each file."""
    sessions = await asyncio.gather(*(Cassandra.connect(new_settings) for _ in range(3)))
    rows = await sessions[0].execute("SELECT name FROM schema_migrations")
    tables = await sessions[1].execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", (new_settings.keyspace,))
    lock = await sessions[2].execute("SELECT * FROM schema_lock")
    await asyncio.gather(*(session.close() for session in sessions))
    assert sorted(row["name"] for row in rows) == [migration.name for migration in read_migrations()]
    assert {"messages", "statuses", "sends", "activity"} <= {row["table_name"] for row in tables}
    assert lock == []


async def held_up(settings: Settings, cassandra: Cassandra, migrations: Path) -> asyncio.Task[list[str]]:
    """Begin to apply a third migration while another process holds the lock: that waits."""
    await migrate(cassandra, keyspace=settings.keyspace, folder=migrations)
    await cassandra.execute("INSERT INTO schema_lock (name, owner) VALUES ('migrate', 'other') IF NOT EXISTS")
    (migrations / "0003_third.cql").write_text("CREATE TABLE IF NOT EXISTS third (id int PRIMARY KEY);")
    waiting = asyncio.create_task(migrate(cassandra, keyspace=settings.keyspace, folder=migrations))
    done, _ = await asyncio.wait([waiting], timeout=1)
    assert not done
    return waiting


@pytest.mark.servers
async def test_a_lock_held_by_another_is_waited_for(new_settings: Settings, cassandra: Cassandra, migrations: Path) -> None:
    """While another process holds the lock nothing is applied; when it lets go, the rest is."""
    waiting = await held_up(new_settings, cassandra, migrations)
    await cassandra.execute("DELETE FROM schema_lock WHERE name = 'migrate' IF EXISTS")
    assert await waiting == ["0003_third"]


@pytest.mark.servers
async def test_a_lock_that_is_left_behind_holds_nobody_up_once_all_is_done(
    new_settings: Settings, cassandra: Cassandra, migrations: Path
) -> None:
    """Its holder was killed before it let go, or its last request was lost: who waits sees that nothing is missing any more."""
    waiting = await held_up(new_settings, cassandra, migrations)
    third = read_migrations(migrations)[-1]
    await cassandra.execute("INSERT INTO @.schema_migrations (name, checksum) VALUES (?, ?)", (third.name, third.checksum))
    async with asyncio.timeout(30):
        assert await waiting == []


@pytest.mark.servers
async def test_a_lock_whose_answer_was_lost_is_ours(
    new_settings: Settings, cassandra: Cassandra, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cassandra gives up on a conditional write that others contend for, and may have made it: nobody waits for its expiry."""
    execute, lost = cassandra.execute, []

    async def losing(statement: str, *arguments: Any, **options: Any) -> list[Row]:
        rows = await execute(statement, *arguments, **options)
        verb = statement.split(maxsplit=1)[0]
        if "@.schema_lock" in statement and verb not in lost:
            lost.append(verb)
            raise CassandraAwayError("the answer was lost")
        return rows

    monkeypatch.setattr(cassandra, "execute", losing)
    async with asyncio.timeout(60):
        assert await migrate(cassandra, keyspace=new_settings.keyspace, folder=migrations) == ["0001_first", "0002_second"]
    assert lost == ["INSERT", "DELETE"]
