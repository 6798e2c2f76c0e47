"""[inbound] [outbound-*] [sent] [status] -> Cassandra: what is read back as history.

Writing is idempotent and convergent (see history_rows), so nothing is read before it is written and a record may come any number of times.
"""

from collections.abc import Hashable, Mapping, Sequence

import structlog

from infra.cassandra.late import LateCassandra
from infra.cassandra.rows import Row, write_rows
from infra.cassandra.session import CassandraAwayError
from infra.fault_points import point
from infra.kafka.consumer import Taken
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.codec import DecodeError
from schemas.topics import INBOUND, OUTBOUND, SENT, STATUS, Topic
from sinks.base import Claims, Context
from sinks.history_rows import INDEX_TABLES, WRITTEN_ONCE, history_rows

log = structlog.get_logger()

NAME = "history"

_REMEMBERED_MAX = 100_000


class UndecodableError(DecodeError):
    """Some records of a batch are not what their topic holds: `records` are those; all others were written."""

    def __init__(self, message: str, records: Sequence[Record]) -> None:
        super().__init__(message)
        self.records = tuple(records)


class History:
    """The history sink."""

    group = NAME
    topics: Sequence[Topic] = (INBOUND, *OUTBOUND.values(), SENT, STATUS)
    batch_max = 100
    held_max: Mapping[str, int] = {}

    def __init__(self, settings: Settings) -> None:
        self._cassandra = LateCassandra(settings)
        self._written: dict[tuple[object, ...], None] = {}

    async def start(self) -> None:
        """Connect and make the tables; a database that is away is waited for when records come.

        Raises MigrationError when the tables are not what this version needs.
        """
        try:
            await self._cassandra.connect()
        except CassandraAwayError as error:
            log.warning("history cannot be written yet", error=str(error))

    def hosted(self, claims: Claims) -> None:
        """Nothing is claimed: writing a row again changes nothing."""

    def lane(self, record: Record) -> Hashable:
        """Return the conversation."""
        return record.key

    async def taken(self, partitions: Sequence[Taken]) -> None:
        """Nothing has to be known before writing."""

    async def handle(self, records: Sequence[Record]) -> None:
        """Write all rows of these records of one conversation.

        Raises CassandraAwayError while the database is away (then all may be handed over again) and UndecodableError, after the others
        were written, for records that are not what their topic holds.
        """
        rows, refused, reason = _rows_of(records)
        rows = [row for row in rows if row.table not in WRITTEN_ONCE or _identity(row) not in self._written]
        cassandra = await self._cassandra.connected()
        point("history.before_rows")
        await write_rows(cassandra, [row for row in rows if row.table in INDEX_TABLES])
        point("history.index_written")
        await write_rows(cassandra, [row for row in rows if row.table not in INDEX_TABLES])
        point("history.rows_written")
        self._remember(rows)
        if refused:
            raise UndecodableError(reason, refused)

    async def stop(self) -> None:
        """Close the connections."""
        await self._cassandra.close()

    def _remember(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.table in WRITTEN_ONCE:
                self._written[_identity(row)] = None
        while len(self._written) > _REMEMBERED_MAX:
            del self._written[next(iter(self._written))]


def build(context: Context) -> History:
    """Return the sink."""
    return History(context.settings)


def _rows_of(records: Sequence[Record]) -> tuple[list[Row], list[Record], str]:
    """Return the rows of the good records, the bad ones, and what is wrong with the first of these."""
    rows: list[Row] = []
    refused: list[Record] = []
    reason = ""
    for record in records:
        try:
            rows += history_rows(record)
        except DecodeError as error:
            refused.append(record)
            reason = reason or str(error)
    return rows, refused, reason


def _identity(row: Row) -> tuple[object, ...]:
    return (row.table, *row.columns.values())
