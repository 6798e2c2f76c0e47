"""The past that a run writes is what history would have written, evenly over its time."""

from infra.bench.past import PAST_MS, event_of, key_of, rows_of, time_of
from infra.cassandra.rows import Row
from infra.kafka.record import Record
from schemas.codec import encode
from schemas.events.inbound import RecordPosition
from sinks.history_rows import history_rows

NOW_MS = 1_795_262_400_000


def test_conversations_lie_evenly_and_before_now() -> None:
    """The oldest first, each with a key of its own."""
    times = [time_of(number, conversations=1_000, now_ms=NOW_MS) for number in range(1_000)]
    assert times == sorted(times)
    assert times[-1] < NOW_MS
    assert times[-1] - times[0] == PAST_MS * 999 // 1_000
    assert len({key_of(number) for number in range(1_000)}) == 1_000


def test_its_rows_are_those_of_history() -> None:
    """Of the same event the sink writes the same, so what is read in a run is what would be there."""
    event = event_of(7, "I want my money back", at_ms=NOW_MS)
    log = RecordPosition(topic="inbound", partition=3, offset=70)
    record = Record(log.topic, log.partition, log.offset, event.conversation.encode(), encode(event), [], 0)
    assert in_order(rows_of(event, log)) == in_order(history_rows(record))


def in_order(rows: list[Row]) -> list[Row]:
    """Return rows by the names of their tables."""
    return sorted(rows, key=lambda row: row.table)
