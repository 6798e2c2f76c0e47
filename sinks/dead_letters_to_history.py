"""[dead-letters] -> Cassandra: what could not be handled, to be listed and redriven for 30 days. The original bytes stay in the log.

Whatever stands in the topic is kept: what has no headers of a dead letter is listed as such. Nothing becomes a dead letter here.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence

import structlog

from infra.cassandra.dead_letters import Entry, dead_letter_rows
from infra.cassandra.late import LateCassandra
from infra.cassandra.rows import Row, write_rows
from infra.cassandra.session import CassandraAwayError
from infra.kafka.consumer import Taken
from infra.kafka.record import Record
from schemas.events.config import DEFAULT_TENANT
from schemas.events.dead_letter import ERROR_LENGTH_MAX, STACK_LENGTH_MAX, DeadLetter, dead_letter_id, read_dead_letter
from schemas.topics import DEAD_LETTERS, Topic
from sinks.base import Claims, Context

log = structlog.get_logger()

NAME = "dead-letters"

UNREADABLE = "unreadable-headers"
_NAME_LENGTH_MAX = 1_000


class DeadLettersToHistory:
    """The sink of dead letters."""

    group = NAME
    topics: Sequence[Topic] = (DEAD_LETTERS,)
    batch_max = 50
    shares_lanes = False
    held_max: Mapping[str, int] = {}
    left_in_log: Collection[str] = ()
    unhurried: Collection[str] = ()

    def __init__(self, context: Context) -> None:
        self._clock = context.clock
        self._cassandra = LateCassandra(context.settings)

    async def start(self) -> None:
        """Connect and make the tables; a database that is away is waited for when records come.

        Raises MigrationError when the tables are not what this version needs.
        """
        try:
            await self._cassandra.connect()
        except CassandraAwayError as error:
            log.warning("dead letters cannot be listed yet", error=str(error))

    def hosted(self, claims: Claims) -> None:
        """Nothing is claimed: writing a row again changes nothing."""

    def lane(self, record: Record) -> Hashable:
        """Return the conversation."""
        return record.key

    async def taken(self, partitions: Sequence[Taken]) -> None:
        """Nothing has to be known before writing."""

    def take_at_once(self, _: Record) -> bool:
        """Nothing is taken at once: every dead letter is written."""
        return False

    async def handle(self, records: Sequence[Record]) -> None:
        """Write the rows of these letters; CassandraAwayError while the database is away or does not take them."""
        rows = [row for record in records for row in rows_of(record, now_ms=self._clock.now_ms())]
        cassandra = await self._cassandra.connected()
        try:
            # Those that lead to a letter first, so that none is there that cannot be found.
            await write_rows(cassandra, [row for row in rows if row.table != "processing_errors"])
            await write_rows(cassandra, [row for row in rows if row.table == "processing_errors"])
        except CassandraAwayError:
            raise
        except Exception as error:
            # Its letter would come back here for ever: what the database refuses waits for an operator, its bytes are in the log.
            raise CassandraAwayError(f"Cassandra refuses a dead letter ({type(error).__name__}: {error}).") from error

    async def stop(self) -> None:
        """Close the connections."""
        await self._cassandra.close()


def rows_of(record: Record, *, now_ms: int) -> list[Row]:
    """Return the rows of a record of [dead-letters], whatever it holds; none if it is older than 30 days."""
    letter = _letter(record)
    entry = Entry(
        id=dead_letter_id(record.headers, partition=record.partition, offset=record.offset),
        tenant=_name(letter.tenant) or DEFAULT_TENANT,
        conversation=_name(record.key.decode("utf-8", "replace")),
        stage=_name(letter.stage),
        cause=_name(letter.cause),
        error=letter.error[:ERROR_LENGTH_MAX],
        topic=_name(letter.topic),
        partition=letter.partition,
        offset=letter.offset,
        attempts=letter.attempts,
        at_ms=letter.at,
        letter_partition=record.partition,
        letter_offset=record.offset,
        size=len(record.value),
        redrive_of=_name(letter.redrive_of),
    )
    return dead_letter_rows(entry, stack=letter.stack[-STACK_LENGTH_MAX:], now_ms=now_ms)


def _letter(record: Record) -> DeadLetter:
    """Return what the headers say, or a letter that says that they cannot be read."""
    try:
        return read_dead_letter(record.headers)
    except ValueError as error:
        at = max(0, record.timestamp_ms)
        return DeadLetter(stage="-", cause=UNREADABLE, error=str(error), topic="", partition=0, offset=0, attempts=0, at=at)


def _name(text: str) -> str:
    return text[:_NAME_LENGTH_MAX]


def build(context: Context) -> DeadLettersToHistory:
    """Return the sink."""
    return DeadLettersToHistory(context)
