"""Keyspaces for tests, used again once they were emptied: making nineteen tables costs Cassandra far more than most tests do."""

import uuid
from collections import deque

from cassandra.cluster import Cluster, Session

from infra.cassandra.migrate import read_migrations

_OF_MIGRATIONS = {"schema_migrations", "schema_lock"}


class Keyspaces:
    """Names of keyspaces of one Cassandra (`host:port`); one at a time belongs to a test."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.split(",", maxsplit=1)[0].rpartition(":")
        self._cluster: Cluster | None = None
        self._session: Session | None = None
        self._empty: deque[str] = deque()
        self._migrations = {migration.name for migration in read_migrations()}

    def take(self) -> str:
        """Return a keyspace that has every table and no row, or the name of one that nobody has made yet."""
        return self._empty.popleft() if self._empty else f"t{uuid.uuid4().hex[:8]}"

    def give_back(self, keyspace: str) -> None:
        """Empty a keyspace for the next test, if it has what migrations make, no less and no more; leave it alone otherwise.

        No process may be writing to it any more. Truncated, not deleted: a deletion would hide what is written with an older time.
        """
        session = self._connected()
        tables = {row[0] for row in session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (keyspace,))}
        if not tables >= _OF_MIGRATIONS:
            return
        if {row[0] for row in session.execute(f'SELECT name FROM "{keyspace}".schema_migrations')} != self._migrations:  # noqa: S608  # names of our own
            return
        waiting = {
            table: session.execute_async(f'SELECT * FROM "{keyspace}"."{table}" LIMIT 1')  # noqa: S608  # names of our own
            for table in tables - _OF_MIGRATIONS
        }
        for table in [table for table, rows in waiting.items() if rows.result().one()]:
            session.execute(f'TRUNCATE "{keyspace}"."{table}"', timeout=60)
        self._empty.append(keyspace)

    def close(self) -> None:
        """End the connection."""
        if self._cluster is not None:
            self._cluster.shutdown()

    def _connected(self) -> Session:
        if self._session is None:
            self._cluster = Cluster([self._host], port=int(self._port), schema_metadata_enabled=False)
            self._session = self._cluster.connect()
        return self._session
