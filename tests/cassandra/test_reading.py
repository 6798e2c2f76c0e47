"""A conversation read back: order, pages, statuses, and whose it is."""

import random
from collections.abc import Iterable

import pytest

from infra.cassandra.history import Message
from infra.cassandra.reading import EVERY_TENANT, CursorError, read_message, read_messages
from infra.cassandra.rows import BUCKET_MS, write_rows
from infra.cassandra.session import Cassandra
from infra.kafka.record import Record
from schemas.events.inbound import RecordPosition
from sinks.history_rows import history_rows
from tests.history_events import NOON_MS, Talk

pytestmark = pytest.mark.servers


async def write(cassandra: Cassandra, records: Iterable[Record]) -> None:
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])


async def read_all(cassandra: Cassandra, talk: Talk, *, limit: int = 1_000, tenant: str | None = None) -> list[Message]:
    """Return all messages, newest first, page by page."""
    messages: list[Message] = []
    before: str | None = None
    while True:
        page = await read_messages(cassandra, tenant=tenant or talk.tenant, conversation=talk.key, before=before, limit=limit)
        assert page is not None
        assert len(page.messages) <= limit
        messages += page.messages
        before = page.before
        if before is None:
            return messages


async def test_an_unknown_conversation_is_none(cassandra: Cassandra, tenant: str) -> None:
    """What nobody wrote about is told from an empty page."""
    for unknown in (Talk(contact="19999999999").key, "", "no key at all"):
        assert await read_messages(cassandra, tenant=tenant, conversation=unknown) is None
    assert await read_message(cassandra, tenant=tenant, message_id="f" * 32) is None
    assert await read_message(cassandra, tenant=tenant, message_id="") is None


async def test_a_question_and_its_answer(cassandra: Cassandra, tenant: str) -> None:
    """Each message has its way through the log: every hop with its record, waited and worked."""
    talk = Talk(tenant=tenant)
    cause = talk.cause(talk.wamid("in"))
    await write(
        cassandra,
        [
            talk.inbound(talk.wamid("in"), "hello", at_ms=NOON_MS),
            talk.outbound(cause, "hi", at_ms=NOON_MS + 30),
            talk.sent(cause, "hi", created_ms=NOON_MS + 30, platform_id=talk.wamid("out")),
            talk.status(talk.wamid("out"), "delivered", at_ms=NOON_MS + 2_000),
        ],
    )
    answer, question = await read_all(cassandra, talk)
    assert (question.direction, question.text, question.status, question.platform_id) == ("in", "hello", "received", talk.wamid("in"))
    assert (question.at, question.sender and question.sender.name) == ("2026-11-21T12:00:00.000Z", "Felix")
    assert [(hop.name, hop.record and hop.record.topic, hop.waited_ms, hop.worked_ms) for hop in question.hops] == [
        ("received", "raw", None, None),
        ("decided", "inbound", 5, 25),
    ]
    assert (answer.direction, answer.text, answer.status, answer.platform_id) == ("out", "hi", "delivered", talk.wamid("out"))
    assert (answer.cause, answer.attempts, [status.status for status in answer.statuses]) == (question.id, 1, ["delivered"])
    assert [(hop.name, hop.record and hop.record.offset) for hop in answer.hops] == [("outbound", 1), ("sent", 2), ("delivered", 3)]
    assert answer.raw == question.raw
    assert await read_message(cassandra, tenant=tenant, message_id=answer.id) == answer


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], "accepted"),
        ([("sent", 1), ("read", 2)], "read"),
        ([("read", 1), ("delivered", 1), ("sent", 1)], "read"),
        ([("delivered", 1), ("sent", 5)], "delivered"),
        ([("sent", 1), ("sent", 1), ("sent", 1)], "sent"),
        ([("delivered", 1), ("failed", 2)], "delivered"),
        ([("sent", 1), ("failed", 2)], "failed"),
        ([("failed", 1), ("sent", 2)], "failed"),
        ([("read", 1), ("played", 1)], "played"),
        ([("warning", 1), ("never-heard-of", 2)], "accepted"),
    ],
)
async def test_statuses_in_any_order(cassandra: Cassandra, tenant: str, told: list[tuple[str, int]], expected: str) -> None:
    """The highest status counts, whatever order they came in and also when they came before [sent]; none is forgotten."""
    for before_sent in (True, False):
        talk = Talk(tenant=tenant)
        platform_id = talk.wamid("out")
        cause = talk.cause("in")
        statuses = [talk.status(platform_id, status, at_ms=NOON_MS + 1_000 * second) for status, second in told]
        send = [talk.outbound(cause, "hi", at_ms=NOON_MS), talk.sent(cause, "hi", created_ms=NOON_MS, platform_id=platform_id)]
        for record in (*statuses, *send) if before_sent else (*send, *statuses):
            await write(cassandra, [record])
        (message,) = await read_all(cassandra, talk)
        assert message.status == expected
        assert {status.status for status in message.statuses} == {status for status, _ in told}
        assert len(message.statuses) == len(set(told))


async def test_two_statuses_of_one_second_are_both_kept(cassandra: Cassandra, tenant: str) -> None:
    """The platform's times have one second's resolution: neither status overwrites the other, and they stand in their natural order."""
    talk = Talk(tenant=tenant)
    records = [talk.status(talk.wamid("same-second"), status, at_ms=NOON_MS) for status in ("read", "delivered", "sent")]
    records += [talk.outbound("cause", "hi", at_ms=NOON_MS)]
    records += [talk.sent("cause", "hi", created_ms=NOON_MS, platform_id=talk.wamid("same-second"))]
    await write(cassandra, records)
    (message,) = await read_all(cassandra, talk)
    assert [status.status for status in message.statuses] == ["sent", "delivered", "read"]


async def test_each_participant_of_a_group_has_statuses_of_its_own(cassandra: Cassandra, tenant: str) -> None:
    """In a group every participant reads at another time, all of them for one message."""
    talk = Talk(tenant=tenant)
    records = [talk.outbound("cause", "hi", at_ms=NOON_MS)]
    records += [talk.sent("cause", "hi", created_ms=NOON_MS, platform_id=talk.wamid("group"))]
    for number, status in enumerate(["delivered", "read", "delivered"]):
        participant = {"recipient_type": "group", "recipient_participant_id": f"1650555000{number}"}
        records.append(talk.status(talk.wamid("group"), status, at_ms=NOON_MS + 1_000, **participant))
    await write(cassandra, records)
    (message,) = await read_all(cassandra, talk)
    assert sorted((status.participant[-1], status.status) for status in message.statuses) == [
        ("0", "delivered"),
        ("1", "read"),
        ("2", "delivered"),
    ]
    assert message.status == "read"


async def test_a_status_finds_its_send_before_the_outcome_is_known(cassandra: Cassandra, tenant: str) -> None:
    """A status with our callback data shows at its message though [sent] is late, or has lost the platform's answer."""
    talk = Talk(tenant=tenant)
    cause = talk.cause("in")
    await write(cassandra, [talk.outbound(cause, "hi", at_ms=NOON_MS)])
    (message,) = await read_all(cassandra, talk)
    assert (message.status, message.platform_id) == ("queued", "")
    await write(cassandra, [talk.status(talk.wamid("early"), "sent", at_ms=NOON_MS, send=talk.send(cause))])
    (message,) = await read_all(cassandra, talk)
    assert (message.status, message.platform_id) == ("sent", talk.wamid("early"))
    await write(cassandra, [talk.sent(cause, "hi", created_ms=NOON_MS, platform_id="", outcome="unknown", error="answer lost")])
    (message,) = await read_all(cassandra, talk)
    assert (message.status, message.platform_id, message.error) == ("sent", talk.wamid("early"), "answer lost")


async def test_outcomes_that_are_not_accepted(cassandra: Cassandra, tenant: str) -> None:
    """A rejected and an unknown send say so, with the platform's reason."""
    for outcome in ("rejected", "unknown"):
        talk = Talk(tenant=tenant)
        record = talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="", outcome=outcome, error_code=131047, error="re-engagement")
        await write(cassandra, [talk.outbound("cause", "hi", at_ms=NOON_MS), record])
        (message,) = await read_all(cassandra, talk)
        assert (message.status, message.error_code, message.error) == (outcome, 131047, "re-engagement")


async def test_a_later_outcome_replaces_an_earlier_one_whole(cassandra: Cassandra, tenant: str) -> None:
    """An unknown send that was settled shows nothing of the doubt any more."""
    talk = Talk(tenant=tenant)
    lost = talk.sent("cause", "hi", created_ms=NOON_MS, platform_id="", outcome="unknown", error="answer lost", http_status=0)
    settled = talk.sent("cause", "hi", created_ms=NOON_MS, platform_id=talk.wamid("settled"), at=NOON_MS + 60_000)
    await write(cassandra, [settled, lost, talk.outbound("cause", "hi", at_ms=NOON_MS)])
    (message,) = await read_all(cassandra, talk)
    assert (message.status, message.platform_id, message.error, message.http_status) == ("accepted", talk.wamid("settled"), "", 200)


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_send_planned_twice_is_one_message(cassandra: Cassandra, tenant: str, reverse: bool) -> None:
    """A rerun, or the same Idempotency-Key, makes the same id again with another time and text: the first one is shown, once."""
    talk = Talk(tenant=tenant)
    plans = [talk.outbound("cause", "first", at_ms=NOON_MS), talk.outbound("cause", "second", at_ms=NOON_MS + 5_000)]
    await write(cassandra, plans[::-1] if reverse else plans)
    assert [message.text for message in await read_all(cassandra, talk)] == ["first"]
    await write(cassandra, [talk.sent("cause", "first, as it left", created_ms=NOON_MS, platform_id=talk.wamid("x"))])
    for limit in (1, 10):
        assert [message.text for message in await read_all(cassandra, talk, limit=limit)] == ["first, as it left"]
    shown = await read_message(cassandra, tenant=tenant, message_id=talk.send("cause"))
    assert shown is not None
    assert shown.text == "first, as it left"


async def test_what_left_counts_though_it_was_the_second_plan(cassandra: Cassandra, tenant: str) -> None:
    """If the sender saw another record first, history shows what it sent."""
    talk = Talk(tenant=tenant)
    plans = [talk.outbound("cause", "first", at_ms=NOON_MS), talk.outbound("cause", "second", at_ms=NOON_MS + 5_000)]
    await write(cassandra, [*plans, talk.sent("cause", "second", created_ms=NOON_MS + 5_000, platform_id=talk.wamid("y"))])
    assert [(message.text, message.status) for message in await read_all(cassandra, talk)] == [("second", "accepted")]


async def test_messages_of_one_body_keep_their_order(cassandra: Cassandra, tenant: str) -> None:
    """A thousand messages of one body have one receiving time: they stand in the order of their records, and pages do not tear it."""
    talk = Talk(tenant=tenant)
    records = [talk.inbound(f"wamid.{random.getrandbits(64)}", f"{number}", at_ms=NOON_MS) for number in range(1_000)]
    await write(cassandra, records)
    expected = [str(number) for number in reversed(range(1_000))]
    for limit in (1_000, 333, 100):
        assert [message.text for message in await read_all(cassandra, talk, limit=limit)] == expected


@pytest.mark.parametrize("limit", [1, 2, 7, 1_000])
async def test_pages_go_back_over_buckets(cassandra: Cassandra, tenant: str, limit: int) -> None:
    """Pages of any size together show every message once, newest first, also across empty months."""
    talk = Talk(tenant=tenant)
    times = [NOON_MS - days * 86_400_000 - offset for days in (0, 9, 10, 11, 95, 400) for offset in (0, 0, 1)]
    times += [NOON_MS // BUCKET_MS * BUCKET_MS, NOON_MS // BUCKET_MS * BUCKET_MS - 1]
    await write(cassandra, [talk.inbound(f"wamid.{number}", str(number), at_ms=at_ms) for number, at_ms in enumerate(times)])
    messages = await read_all(cassandra, talk, limit=limit)
    expected = sorted(range(len(times)), key=lambda number: (times[number], number), reverse=True)
    assert [int(message.text) for message in messages] == expected


async def test_a_page_takes_few_statements(cassandra: Cassandra, tenant: str, statements: list[str]) -> None:
    """However many of its messages went out; each has what was told of it, also where there are more than one statement asks about."""
    talk = Talk(tenant=tenant)
    records: list[Record] = []
    for number in range(120):
        at_ms, platform_id = NOON_MS + 1_000 * number, talk.wamid(f"out-{number}")
        cause = talk.cause(talk.wamid(f"in-{number}"))
        records += [
            talk.outbound(cause, f"{number}", at_ms=at_ms),
            talk.sent(cause, f"{number}", created_ms=at_ms, platform_id=platform_id),
            talk.status(platform_id, "delivered" if number % 2 else "read", at_ms=at_ms + 2_000),
        ]
    await write(cassandra, records)
    statements.clear()
    page = await read_messages(cassandra, tenant=tenant, conversation=talk.key, limit=50)
    assert page is not None
    assert [each.status for each in page.messages] == ["delivered", "read"] * 25
    assert len(statements) <= 8, statements
    statements.clear()
    assert [(each.text, len(each.statuses)) for each in await read_all(cassandra, talk)] == [
        (f"{number}", 1) for number in reversed(range(120))
    ]
    assert len(statements) <= 11, statements


async def test_a_tenant_sees_only_its_own(cassandra: Cassandra, tenant: str) -> None:
    """One conversation key may belong to two tenants in turn: each sees its own messages, the administrator all of them."""
    mine = Talk(tenant=tenant)
    theirs = Talk(contact=mine.contact, tenant=f"{tenant}-other")
    assert mine.key == theirs.key
    await write(
        cassandra, [mine.inbound(mine.wamid("1"), "mine", at_ms=NOON_MS), theirs.inbound(theirs.wamid("2"), "theirs", at_ms=NOON_MS + 1)]
    )
    await write(cassandra, [theirs.outbound("cause", "their answer", at_ms=NOON_MS + 2)])
    assert [message.text for message in await read_all(cassandra, mine)] == ["mine"]
    assert [message.text for message in await read_all(cassandra, theirs)] == ["their answer", "theirs"]
    for limit in (1, 10):
        everything = await read_all(cassandra, mine, limit=limit, tenant=EVERY_TENANT)
        assert [message.text for message in everything] == ["their answer", "theirs", "mine"]
    assert await read_messages(cassandra, tenant=f"{tenant}-third", conversation=mine.key) is None
    assert await read_message(cassandra, tenant=tenant, message_id=theirs.send("cause")) is None
    assert await read_message(cassandra, tenant=EVERY_TENANT, message_id=theirs.send("cause")) is not None


async def test_a_send_without_a_cause_in_raw_points_at_its_own_record(cassandra: Cassandra, tenant: str) -> None:
    """What the API asked for has no webhook behind it: its original is its outbound record."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.outbound("cause", "hi", at_ms=NOON_MS, raw=None, priority="normal")])
    (message,) = await read_all(cassandra, talk)
    assert message.raw is not None
    assert (message.raw.topic, message.raw.partition, message.raw.offset) == ("outbound-normal", 3, 0)


async def test_what_people_sent_from_the_business_app_has_statuses(cassandra: Cassandra, tenant: str) -> None:
    """An echo is a message out that somebody else sent: it is shown as one, with its statuses."""
    talk = Talk(tenant=tenant)
    raw = RecordPosition(topic="raw", partition=1, offset=2)
    echo = talk.inbound(talk.wamid("echo"), "by hand", at_ms=NOON_MS, direction="out", kind="echo", decision="stored", raw=raw)
    await write(cassandra, [echo, talk.status(talk.wamid("echo"), "delivered", at_ms=NOON_MS + 1_000)])
    (message,) = await read_all(cassandra, talk)
    assert (message.direction, message.status, message.sender) == ("out", "delivered", None)


@pytest.mark.parametrize("cursor", ["x", "1", "1.2", "1.2.3", "-1.0.0.x", f"{1 << 80}.0.0.x", "1.0.x.y", "..."])
async def test_a_cursor_of_nobody_is_refused(cassandra: Cassandra, tenant: str, cursor: str) -> None:
    """A `before` that no page gave out is an error, not an empty page."""
    with pytest.raises(CursorError):
        await read_messages(cassandra, tenant=tenant, conversation="wa:1:2", before=cursor)
