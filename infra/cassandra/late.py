"""A session that may come late: for roles that start while the database is away and wait for it when they need it."""

import asyncio

from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.errors import OttlaError
from infra.settings import Settings


class LateCassandra:
    """Connects when it is first asked to; all who wait for the session share one attempt."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cassandra: Cassandra | None = None
        self._connecting: asyncio.Task[Cassandra] | None = None

    async def connect(self) -> Cassandra:
        """Return the session. CassandraAwayError when no node answers, MigrationError when the tables are not what this version needs."""
        if self._cassandra is not None:
            return self._cassandra
        if self._connecting is None:
            self._connecting = asyncio.create_task(Cassandra.connect(self._settings), name="connect cassandra")
        connecting = self._connecting
        try:
            self._cassandra = await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None
        return self._cassandra

    async def connected(self) -> Cassandra:
        """Return the session; CassandraAwayError while there is none, for whatever reason."""
        try:
            return await self.connect()
        except CassandraAwayError:
            raise
        except OttlaError as error:
            # Tables that do not fit are an operator's to mend; the records are good and wait for it.
            raise CassandraAwayError(str(error)) from error

    async def close(self) -> None:
        """End all connections."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._cassandra is not None:
            await self._cassandra.close()
            self._cassandra = None
