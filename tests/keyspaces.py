"""Keyspaces for tests, used again once they were emptied: making nineteen tables costs Cassandra far more than most tests do."""

import re
import uuid
from collections import deque

from cassandra import DriverException
from cassandra.cluster import Cluster, NoHostAvailable, Session

from infra.cassandra.migrate import read_migrations

_OF_MIGRATIONS = {"schema_migrations", "schema_lock"}
_MADE = re.compile(r"^CREATE TABLE IF NOT EXISTS (\w+)")


class Keyspaces:
    """Names of keyspaces of one Cassandra (`host:port`); one at a time belongs to a test."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.split(",", maxsplit=1)[0].rpartition(":")
        self._cluster: Cluster | None = None
        self._session: Session | None = None
        self._empty: deque[str] = deque()
        self._migrations = {migration.name for migration in read_migrations()}
        made = [_MADE.match(statement) for migration in read_migrations() for statement in migration.statements]
        self._tables = {found[1] for found in made if found} | _OF_MIGRATIONS

    def take(self) -> str:
        """Return a keyspace that has every table and no row, or the name of one that nobody has made yet."""
        return self._empty.popleft() if self._empty else f"t{uuid.uuid4().hex[:8]}"

    def give_back(self, keyspace: str) -> None:
        """Empty a keyspace for the next test, if it has what migrations make, no less and no more; leave it alone otherwise.

        No process may be writing to it any more. Truncated, not deleted: a deletion would hide what is written with an older time.
        """
        try:
            if self._is_whole(keyspace):
                self._make_empty(keyspace)
                self._empty.append(keyspace)
        except (DriverException, NoHostAvailable):
            return  # the next test gets a new one

    def _is_whole(self, keyspace: str) -> bool:
        session = self._connected()
        tables = {row[0] for row in session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (keyspace,))}
        if tables != self._tables:
            return False
        applied = session.execute(f'SELECT name FROM "{keyspace}".schema_migrations')  # noqa: S608  # names of our own
        return {row[0] for row in applied} == self._migrations

    def _make_empty(self, keyspace: str) -> None:
        # A table whose rows were all deleted would not be found, but history deletes nothing.
        session = self._connected()
        waiting = {
            table: session.execute_async(f'SELECT * FROM "{keyspace}"."{table}" LIMIT 1')  # noqa: S608  # names of our own
            for table in self._tables - _OF_MIGRATIONS
        }
        for table in [table for table, rows in waiting.items() if rows.result().one()]:
            session.execute(f'TRUNCATE "{keyspace}"."{table}"', timeout=60)

    def close(self) -> None:
        """End the connection."""
        if self._cluster is not None:
            self._cluster.shutdown()

    def _connected(self) -> Session:
        if self._session is None:
            self._cluster = Cluster([self._host], port=int(self._port), schema_metadata_enabled=False)
            self._session = self._cluster.connect()
        return self._session
