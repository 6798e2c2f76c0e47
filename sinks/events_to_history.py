"""[inbound] [outbound-*] [sent] [status] -> Cassandra: what is read back as history.

Writing is idempotent and convergent (see history_rows), so nothing is read before it is written and a record may come any number of times.
"""

import asyncio
from collections.abc import Collection, Hashable, Mapping, Sequence

import structlog

from infra.cassandra.late import LateCassandra
from infra.cassandra.rows import Row, write_rows
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.fault_points import point
from infra.kafka.consumer import Taken
from infra.kafka.record import Record
from infra.metrics import HISTORY_ROWS
from infra.newest import Newest
from infra.settings import Settings
from schemas.codec import DecodeError
from schemas.events.canary import is_canary
from schemas.topics import INBOUND, OUTBOUND, SENT, STATUS, Topic
from sinks.base import Claims, Context
from sinks.history_rows import INDEX_TABLES, WRITTEN_ONCE, history_rows

log = structlog.get_logger()

NAME = "history"

# Of each send one, so some 20 s at a thousand a second; what is forgotten is written once more.
_REMEMBERED_MAX = 20_000
_MESSAGES, _CANARIES = "messages", "canaries"

Identity = tuple[object, ...]


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
    shares_lanes = True
    held_max: Mapping[str, int] = {}
    # What a page shows may be so late. In this time a conversation's message, its answer, the outcome and the first statuses come together.
    left_in_log: Collection[str] = ()
    unhurried: Collection[str] = tuple(topic.name for topic in topics)

    def __init__(self, settings: Settings) -> None:
        self._cassandra = LateCassandra(settings)
        self._written: Newest[Identity, None] = Newest(_REMEMBERED_MAX)
        self._index: list[Row] = []
        self._index_written: asyncio.Task[None] | None = None

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
        """Return one lane for all conversations of a partition: their rows go together, and none waits for another row's order."""
        return _CANARIES if is_canary(record.key) else _MESSAGES

    async def taken(self, partitions: Sequence[Taken]) -> None:
        """Nothing has to be known before writing."""

    def take_at_once(self, _: Record) -> bool:
        """Nothing is taken at once: every record is written."""
        return False

    async def handle(self, records: Sequence[Record]) -> None:
        """Write all rows of these records.

        Raises CassandraAwayError while the database is away (then all may be handed over again) and UndecodableError, after the others
        were written, for records that are not what their topic holds.
        """
        rows, refused, reason = _rows_of(records)
        rows, once = self._not_written(rows)
        cassandra = await self._cassandra.connected()
        point("history.before_rows")
        index = [row for row in rows if row.table in INDEX_TABLES]
        # One record alone is perhaps one whose siblings failed with it: it must not take others along again.
        await (self._write_index(cassandra, index) if len(records) > 1 else write_rows(cassandra, index))
        point("history.index_written")
        await write_rows(cassandra, [row for row in rows if row.table not in INDEX_TABLES])
        HISTORY_ROWS.inc(len(rows))
        point("history.rows_written")
        self._remember(once)
        if refused:
            raise UndecodableError(reason, refused)

    async def stop(self) -> None:
        """Close the connections."""
        await self._cassandra.close()

    async def _write_index(self, cassandra: Cassandra, rows: Sequence[Row]) -> None:
        """Write these rows with those that other lanes bring in the same moment: a tenant's day has few partitions for all of them."""
        if not rows:
            return
        self._index += rows
        if self._index_written is None:
            self._index_written = asyncio.create_task(self._write_gathered(cassandra), name="history index")
        await asyncio.shield(self._index_written)

    async def _write_gathered(self, cassandra: Cassandra) -> None:
        # Lanes that were filled together run one after the other before this does.
        rows, self._index, self._index_written = self._index, [], None
        await write_rows(cassandra, rows)

    def _not_written(self, rows: Sequence[Row]) -> tuple[list[Row], list[Identity]]:
        """Return the rows but for those that were written and need not be again, and what to remember of them once they are."""
        wanted: list[Row] = []
        once: dict[Identity, None] = {}
        for row in rows:
            if row.table in WRITTEN_ONCE:
                identity = (row.table, *row.columns.values())
                if identity in self._written or identity in once:
                    continue
                once[identity] = None
            wanted.append(row)
        return wanted, list(once)

    def _remember(self, once: Sequence[Identity]) -> None:
        for identity in once:
            self._written.put(identity, None)


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
