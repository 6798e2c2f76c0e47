"""Makes the tables: numbered CQL files, applied once each and in order.

Which ones were applied is in the table schema_migrations, with a checksum, so that an edited file is found out. Every statement says
IF NOT EXISTS, so a process that died in the middle is simply repeated; a lock row lets one process at a time apply them.
"""

import asyncio
import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cassandra import InvalidRequest

from infra.errors import OttlaError
from infra.retries import AwayError

if TYPE_CHECKING:
    from infra.cassandra.session import Cassandra

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"

_REPLICAS_MAX = 3
_LOCK_S = 120
_VISIBLE_POLL_S = 0.1
_VISIBLE_TRIES = 100
_LOCK_POLL_S = 0.3
_LOCK_TRIES = int(2 * _LOCK_S / _LOCK_POLL_S)
_STATEMENT_TIMEOUT_S = 60.0
_FILE_NAME = re.compile(r"^[0-9]{4}_[a-z0-9_]+\.cql$")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


class MigrationError(OttlaError):
    """The tables cannot be brought to what this version needs."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One file: its name, what it runs, and a checksum of its text."""

    name: str
    statements: tuple[str, ...]
    checksum: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of a folder in order; MigrationError for a file that is not numbered or a number used twice."""
    migrations = [_read(path) for path in sorted(folder.glob("*.cql"))]
    numbers = Counter(migration.name[:4] for migration in migrations)
    for number, count in numbers.items():
        if count > 1:
            raise MigrationError(f"Two migrations have the number {number}: give the newer one the next free number.")
    return migrations


def _read(path: Path) -> Migration:
    if not _FILE_NAME.match(path.name):
        raise MigrationError(f"{path.name} is not named like 0001_what.cql: rename it.")
    text = path.read_text(encoding="utf-8")
    statements = tuple(part.strip() for part in _COMMENT.sub("", text).split(";") if part.strip())
    return Migration(name=path.stem, statements=statements, checksum=hashlib.sha256(text.encode()).hexdigest())


async def migrate(cassandra: "Cassandra", *, keyspace: str, folder: Path = MIGRATIONS) -> list[str]:
    """Make the keyspace if it is missing, use it, and apply the migrations it has not seen; return their names.

    Raises MigrationError if an applied file was changed, or if another process holds the lock for too long.
    """
    migrations = read_migrations(folder)
    missing = await _missing_at_first(cassandra, keyspace, migrations)
    owner = str(uuid.uuid4())
    for _ in range(_LOCK_TRIES):
        if not missing:  # also while somebody waits for the lock: whoever has it may be gone, and all done
            return []
        if await _locked(cassandra, owner):
            return await _apply_missing(cassandra, migrations, owner)
        await asyncio.sleep(_LOCK_POLL_S)
        missing = await _missing(cassandra, migrations)
    raise MigrationError("Another process has been changing the tables for minutes: see its log, then start again.")


async def _apply_missing(cassandra: "Cassandra", migrations: Sequence[Migration], owner: str) -> list[str]:
    """Apply what is missing now, as the lock's owner, and let go of it; it expires by itself where that does not get through."""
    try:
        missing = await _missing(cassandra, migrations)
        for migration in missing:
            await _apply(cassandra, migration)
    finally:
        with suppress(AwayError):
            await cassandra.execute("DELETE FROM @.schema_lock WHERE name = 'migrate' IF owner = ?", (owner,))
    return [migration.name for migration in missing]


async def _missing_at_first(cassandra: "Cassandra", keyspace: str, migrations: Sequence[Migration]) -> list[Migration]:
    """Make what migrations stand on and return those to apply.

    What another process is just making can be read in system_schema a moment before statements on it are possible: then again.
    """
    for _ in range(_VISIBLE_TRIES):
        try:
            await _make_keyspace(cassandra, keyspace)
            cassandra.use(keyspace)
            await _make_own_tables(cassandra, keyspace)
            await cassandra.execute("SELECT name FROM schema_lock")
            return await _missing(cassandra, migrations)
        except InvalidRequest as error:
            last = error
            await asyncio.sleep(_VISIBLE_POLL_S)
    raise MigrationError(f"Cassandra does not see the tables it has just made ({last}): start again.")


async def _make_keyspace(cassandra: "Cassandra", keyspace: str) -> None:
    known = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?"
    if await cassandra.execute(known, (keyspace,)):
        return
    here = await cassandra.execute("SELECT data_center FROM system.local")
    others = await cassandra.execute("SELECT data_center FROM system.peers")
    nodes = Counter(str(row["data_center"]) for row in (*here, *others))
    replicas = ", ".join(f"'{name}': {min(_REPLICAS_MAX, count)}" for name, count in sorted(nodes.items()))
    await _change(
        cassandra,
        f"CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy', {replicas}}}",
    )


async def _make_own_tables(cassandra: "Cassandra", keyspace: str) -> None:
    query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
    known = {row["table_name"] for row in await cassandra.execute(query, (keyspace,))}
    wanted = {
        "schema_migrations": "name text PRIMARY KEY, checksum text, applied_at timestamp",
        "schema_lock": "name text PRIMARY KEY, owner text",
    }
    for table, columns in wanted.items():
        if table not in known:
            await _change(cassandra, f"CREATE TABLE IF NOT EXISTS {table} ({columns})")


async def _missing(cassandra: "Cassandra", migrations: Sequence[Migration]) -> list[Migration]:
    rows = await cassandra.execute("SELECT name, checksum FROM schema_migrations")
    applied = {str(row["name"]): str(row["checksum"]) for row in rows}
    for migration in migrations:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"Migration {migration.name} was changed after it was applied: put its old text back and add a new numbered file."
            )
    return [migration for migration in migrations if migration.name not in applied]


async def _apply(cassandra: "Cassandra", migration: Migration) -> None:
    for statement in migration.statements:
        await _change(cassandra, statement)
    await cassandra.execute(
        "INSERT INTO @.schema_migrations (name, checksum, applied_at) VALUES (?, ?, toTimestamp(now()))",
        (migration.name, migration.checksum),
    )
    log.info("migration applied", name=migration.name)


async def _change(cassandra: "Cassandra", statement: str) -> None:
    await cassandra.execute(statement, timeout_s=_STATEMENT_TIMEOUT_S)
    if not await cassandra.schema_agreement():
        raise MigrationError("The nodes of Cassandra do not agree on their tables: see `nodetool describecluster`, then start again.")


async def _locked(cassandra: "Cassandra", owner: str) -> bool:
    """Take the lock row, which expires by itself so that a holder that died holds nobody up for long; tell whether it is ours."""
    insert = "INSERT INTO @.schema_lock (name, owner) VALUES ('migrate', ?) IF NOT EXISTS USING TTL ?"
    try:
        answer = (await cassandra.execute(insert, (owner, _LOCK_S)))[0]
    except AwayError:  # as where several ask at once: it may be ours all the same, which the next answer tells
        return False
    return bool(answer["[applied]"]) or answer.get("owner") == owner
