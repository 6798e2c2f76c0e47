"""A send's statuses and its own records in any order and any number: one final reading, and none on the way that goes down."""

import asyncio
import itertools
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from infra.cassandra import reading
from infra.cassandra.history import Message
from infra.cassandra.reading import EVERY_TENANT, read_message
from infra.cassandra.rows import Row, write_rows
from infra.cassandra.session import Cassandra
from infra.kafka.record import Record
from sinks.history_rows import history_rows
from tests.history_events import NOON_MS, Talk

LEVELS = {"queued": 0, "unknown": 1, "rejected": 1, "accepted": 2, "sent": 3, "failed": 4, "delivered": 5, "read": 6, "played": 7}
"""The rungs: `failed` is above what it ends and below what shows that the message did arrive."""

CAUSE = "cause"
PARTICIPANTS = ("", "16505550001", "16505550002")
_WORDS = st.sampled_from(["sent", "delivered", "read", "played", "failed", "warning", "deleted", "accepted", "queued", "unknown"])

_KEYS = {
    "messages": ("tenant", "conversation", "bucket", "time_ms", "id"),
    "sends": ("id",),
    "statuses": ("channel", "platform_id", "participant", "status", "at_ms"),
    "platform_ids": ("account", "send", "platform_id"),
}


class Tables:
    """Rows as Cassandra keeps them: of each column the value with the latest write time counts, of one time the greater one."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[tuple[Any, ...], dict[str, tuple[int, Any]]]] = defaultdict(lambda: defaultdict(dict))

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.table in _KEYS:
                cells = self._cells[row.table][tuple(row.columns[name] for name in _KEYS[row.table])]
                for name, value in row.columns.items():
                    cells[name] = max(cells.get(name, (-1, value)), (row.write_us, value))

    async def execute(self, query: str, values: Sequence[Any]) -> list[Any]:
        table = _TABLE_OF[query]
        return [
            defaultdict(lambda: None, {name: value for name, (_, value) in cells.items()})
            for key, cells in sorted(self._cells[table].items())
            # A list stands for `IN`.
            if all(part in value if isinstance(value, list) else part == value for part, value in zip(key, values, strict=False))
        ]


_TABLE_OF = {
    reading._SELECT_SEND: "sends",
    reading._SELECT_ONE: "messages",
    reading._SELECT_STATUSES: "statuses",
    reading._SELECT_PLATFORM_IDS: "platform_ids",
    reading._SELECT_OLD_PLATFORM_IDS: "send_platform_ids",
}


@st.composite
def told(draw: st.DrawFn, talk: Talk) -> list[Record]:
    """Return what the logs may hold of one send, in an order and number in which they may be read."""
    plans = draw(st.sampled_from([(), (0,), (0, 5_000)]))
    records = [talk.outbound(CAUSE, f"planned {later_ms}", at_ms=NOON_MS + later_ms) for later_ms in plans]
    for number, outcome in enumerate(draw(st.lists(st.sampled_from(["accepted", "unknown", "rejected"]), max_size=2, unique=True))):
        platform_id = talk.wamid("out") if outcome == "accepted" else ""
        records.append(
            talk.sent(CAUSE, "left", created_ms=NOON_MS, at=NOON_MS + 80 + 60_000 * number, platform_id=platform_id, outcome=outcome)
        )
    for word in draw(st.lists(_WORDS, max_size=6)):
        second = draw(st.integers(0, 2))
        # A second platform id is what a send that went out twice has: it is known by our callback data only.
        name = draw(st.sampled_from(["out", "out", "other"]))
        send = talk.send(CAUSE) if name == "other" or draw(st.booleans()) else ""
        participant = draw(st.sampled_from(PARTICIPANTS))
        extra = {"recipient_type": "group", "recipient_participant_id": participant} if participant else {}
        records.append(talk.status(talk.wamid(name), word, at_ms=NOON_MS + 1_000 * second, send=send, **extra))
    again = draw(st.lists(st.sampled_from(records), max_size=4)) if records else []
    return draw(st.permutations([*records, *again]))


Read = Callable[[], Awaitable[Message | None]]


async def check(records: Sequence[Record], write: Callable[[Record], Awaitable[None]], read: Read) -> Message | None:
    """Write records one by one and read after each: neither the message nor any of its participants may ever go down."""
    last: Message | None = None
    for record in records:
        await write(record)
        shown = await read()
        if last is not None:
            assert shown is not None
            assert LEVELS[shown.status] >= LEVELS[last.status], (last.status, shown.status)
            assert all(LEVELS[shown.participants[name]] >= LEVELS[status] for name, status in last.participants.items())
            assert {(each.status, each.participant, each.at) for each in shown.statuses} >= {
                (each.status, each.participant, each.at) for each in last.statuses
            }
        last = shown
    return last


async def in_memory(records: Sequence[Record], talk: Talk) -> Message | None:
    """Write to tables in memory, read after each record, and return the last reading."""
    tables = Tables()
    database = cast("Cassandra", tables)

    async def write(record: Record) -> None:
        tables.write(history_rows(record))

    return await check(records, write, lambda: read_message(database, tenant=EVERY_TENANT, message_id=talk.send(CAUSE)))


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_order_gives_one_reading_that_never_goes_down(data: st.DataObject) -> None:
    """Late, early, twice, without `delivered`, for a group: what was told decides, not when we learnt of it."""
    talk = Talk(contact="16505559999")
    records = data.draw(told(talk))
    other = data.draw(st.permutations(records))
    distinct = list({id(record): record for record in records}.values())
    readings = [asyncio.run(in_memory(order, talk)) for order in (records, other, distinct)]
    assert readings[0] == readings[1] == readings[2]
    if readings[0] is not None:
        _check_final(readings[0])


def _check_final(message: Message) -> None:
    """Check a final reading against the rule as it is written, not as it is coded."""
    words = [status.status for status in message.statuses]
    for wanted in ("played", "read", "delivered"):
        if wanted in words:
            assert message.status == wanted
            return
    if "failed" in words:
        assert message.status == "failed"
    elif "sent" in words:
        assert message.status == "sent"
    else:
        assert message.status == "accepted" if message.platform_ids else message.status in ("queued", "unknown", "rejected")


@pytest.mark.servers
@hypothesis_settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_the_real_database_reads_the_same(cassandra: Cassandra, tenant: str, data: st.DataObject) -> None:
    """What the tables in memory say is what Cassandra says, after each record and at the end."""
    # Hypothesis seeds Python's own chance anew for each example: that would name the same conversation again.
    talk = Talk(contact=str(uuid.uuid4().int), tenant=tenant)
    records = data.draw(told(talk))

    async def write(record: Record) -> None:
        await write_rows(cassandra, history_rows(record))

    shown = await check(records, write, lambda: read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE)))
    assert shown == await in_memory(records, talk)


@pytest.mark.servers
async def test_a_status_of_an_unknown_message_waits_for_it(cassandra: Cassandra, tenant: str) -> None:
    """A status may come before anything of ours, without our callback data: it shows as soon as the send's answer names the message."""
    talk = Talk(tenant=tenant)
    orders = [
        talk.status(talk.wamid("out"), "read", at_ms=NOON_MS),
        talk.outbound(CAUSE, "hi", at_ms=NOON_MS),
        talk.sent(CAUSE, "hi", created_ms=NOON_MS, platform_id=talk.wamid("out")),
    ]
    seen: list[str | None] = []
    for record in orders:
        await write_rows(cassandra, history_rows(record))
        message = await read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE))
        seen.append(message.status if message is not None else None)
    assert seen == [None, "queued", "read"]


def test_each_participant_of_a_group_climbs_by_itself() -> None:
    """One participant's `failed` is final for that one, and hides nothing of what the others did."""
    talk = Talk()
    words = [("1", "failed"), ("1", "sent"), ("2", "delivered"), ("2", "failed"), ("3", "read"), ("3", "sent"), ("4", "sent")]
    statuses = [
        talk.status(talk.wamid("out"), word, at_ms=NOON_MS, recipient_type="group", recipient_participant_id=name) for name, word in words
    ]
    send = [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), talk.sent(CAUSE, "hi", created_ms=NOON_MS, platform_id=talk.wamid("out"))]
    for order in itertools.islice(itertools.permutations([*send, *statuses]), 0, None, 7_919):
        message = asyncio.run(in_memory(order, talk))
        assert message is not None
        assert message.participants == {"1": "failed", "2": "delivered", "3": "read", "4": "sent"}
        assert message.status == "read"
