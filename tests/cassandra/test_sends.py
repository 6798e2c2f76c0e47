"""Unknown sends on a real node: what is listed, what settles a send, and that the order of records makes no difference."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest

from infra.cassandra.reading import EVERY_TENANT, CursorError, read_message, read_messages
from infra.cassandra.rows import DAY_MS, write_rows
from infra.cassandra.sends import read_content, read_send, read_unknown_sends
from infra.cassandra.session import Cassandra
from infra.kafka.record import Record
from sinks.history_rows import history_rows
from tests.history_events import ACCOUNT, NOON_MS, Talk

pytestmark = pytest.mark.servers

CAUSE = "cause"


async def write(cassandra: Cassandra, records: Iterable[Record]) -> None:
    for record in records:
        await write_rows(cassandra, history_rows(record))


def unknown(talk: Talk, cause: str = CAUSE, *, created_ms: int = NOON_MS, at_ms: int = NOON_MS + 80) -> Record:
    """Return the outcome of a send whose answer was lost."""
    return talk.sent(cause, "hi", created_ms=created_ms, at=at_ms, platform_id="", outcome="unknown", error="answer lost", http_status=0)


async def listed(cassandra: Cassandra, tenant: str, *, limit: int = 100) -> list[str]:
    """Return the ids of all pages of the list."""
    ids: list[str] = []
    before: str | None = None
    while True:
        page = await read_unknown_sends(cassandra, tenant=tenant, before=before, limit=limit)
        ids += [each.id for each in page.sends]
        before = page.before
        if before is None:
            return ids


async def test_an_unknown_send_is_listed_with_all_an_operator_needs(cassandra: Cassandra, tenant: str) -> None:
    """What was sent, to whom, when and why nobody knows: and only to the tenant whose it is, and the administrator."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), unknown(talk)])
    (entry,) = (await read_unknown_sends(cassandra, tenant=tenant)).sends
    assert (entry.id, entry.conversation, entry.account, entry.to) == (talk.send(CAUSE), talk.key, ACCOUNT, talk.contact)
    assert (entry.outcome, entry.attempts, entry.error, entry.text, entry.settled) == ("unknown", 1, "answer lost", "hi", False)
    assert entry.at == "2026-11-21T12:00:00.080Z"
    assert await listed(cassandra, f"{tenant}-other") == []
    assert talk.send(CAUSE) in await listed(cassandra, EVERY_TENANT)
    assert await read_send(cassandra, tenant=f"{tenant}-other", send=entry.id) is None


ORDERS = [order for order in itertools.product(range(4), repeat=4) if len(set(order)) == 4] + [
    (0, 0, 1, 1, 2, 2, 3, 3),
    (3, 2, 1, 0, 3, 2, 1, 0),
]


@pytest.mark.parametrize("order", ORDERS)
async def test_a_status_settles_whatever_the_order(cassandra: Cassandra, tenant: str, order: tuple[int, ...]) -> None:
    """Plan, lost answer and two late statuses with our id, in any order and twice, end in one reading: settled, delivered, not listed."""
    talk = Talk(tenant=tenant)
    send, wamid = talk.send(CAUSE), talk.wamid("late")
    records = [
        talk.outbound(CAUSE, "hi", at_ms=NOON_MS),
        unknown(talk),
        talk.status(wamid, "sent", at_ms=NOON_MS + 3 * DAY_MS, send=send),
        talk.status(wamid, "delivered", at_ms=NOON_MS + 3 * DAY_MS, send=send),
    ]
    await write(cassandra, [records[number] for number in order])
    assert await listed(cassandra, tenant) == []
    one = await read_message(cassandra, tenant=tenant, message_id=send)
    page = await read_messages(cassandra, tenant=tenant, conversation=talk.key)
    assert one is not None
    assert page is not None
    assert page.messages == [one]
    assert (one.status, one.platform_id, one.platform_ids, one.settled) == ("delivered", wamid, [wamid], True)


async def test_a_status_of_a_kind_nobody_knows_settles_as_well(cassandra: Cassandra, tenant: str) -> None:
    """Whatever the platform says about our id proves that it took the message: it counts as accepted."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), unknown(talk)])
    await write(cassandra, [talk.status(talk.wamid("x"), "never-heard-of", at_ms=NOON_MS, send=talk.send(CAUSE))])
    message = await read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE))
    assert message is not None
    assert (message.status, message.settled) == ("accepted", True)
    assert await listed(cassandra, tenant) == []


async def test_a_status_without_our_id_settles_nothing(cassandra: Cassandra, tenant: str) -> None:
    """Only callback data ties a status to a send: another one to the same person leaves the doubt."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), unknown(talk)])
    await write(cassandra, [talk.status(talk.wamid("x"), "delivered", at_ms=NOON_MS + 1_000)])
    assert await listed(cassandra, tenant) == [talk.send(CAUSE)]


async def test_another_accounts_status_settles_nothing(cassandra: Cassandra, tenant: str) -> None:
    """Whoever signs for one account may put any send's id into a status; what was told before accounts were told apart counts yet."""
    talk = Talk(tenant=tenant)
    forged = talk.status(talk.wamid("x"), "delivered", at_ms=NOON_MS + 1_000, send=talk.send(CAUSE))
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), unknown(talk), replace(forged, key=b"wa:666:16505550001")])
    assert await listed(cassandra, tenant) == [talk.send(CAUSE)]
    old = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
    await cassandra.execute(old, (talk.send(CAUSE), talk.wamid("y")))
    assert await listed(cassandra, tenant) == []
    message = await read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE))
    assert message is not None
    assert message.platform_ids == [talk.wamid("y")]
    await write(cassandra, [talk.status(talk.wamid("z"), "read", at_ms=NOON_MS + 2_000, send=talk.send(CAUSE))])
    message = await read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE))
    assert message is not None
    assert sorted(message.platform_ids) == [talk.wamid("y"), talk.wamid("z")]


@pytest.mark.parametrize("reverse", [False, True])
async def test_two_platform_ids_of_one_send_are_both_shown(cassandra: Cassandra, tenant: str, reverse: bool) -> None:
    """A send that the platform took twice is shown with both ids and the statuses of both, whoever named them and in whatever order."""
    for second_is_told_by_a_status in (True, False):
        talk = Talk(tenant=tenant)
        ids = [talk.wamid("first"), talk.wamid("second")]
        records = [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), talk.sent(CAUSE, "hi", created_ms=NOON_MS, platform_id=ids[0])]
        if second_is_told_by_a_status:
            records.append(talk.status(ids[1], "delivered", at_ms=NOON_MS, send=talk.send(CAUSE)))
        else:
            records.append(talk.sent(CAUSE, "hi", created_ms=NOON_MS, platform_id=ids[1], at=NOON_MS + 9_000))
            records.append(talk.status(ids[0], "delivered", at_ms=NOON_MS))
        await write(cassandra, records[::-1] if reverse else records)
        message = await read_message(cassandra, tenant=tenant, message_id=talk.send(CAUSE))
        assert message is not None
        assert (sorted(message.platform_ids), message.status) == (ids, "delivered")
        assert message.platform_id == message.platform_ids[0]


@pytest.mark.parametrize("reverse", [False, True])
async def test_an_outcome_recorded_twice_is_listed_once(cassandra: Cassandra, tenant: str, reverse: bool) -> None:
    """A sender that was killed after its record writes the outcome again, a day later: one entry, at the later time; accepted: none."""
    talk = Talk(tenant=tenant)
    outcomes = [unknown(talk), unknown(talk, at_ms=NOON_MS + DAY_MS)]
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), *(outcomes[::-1] if reverse else outcomes)])
    (entry,) = (await read_unknown_sends(cassandra, tenant=tenant)).sends
    assert entry.at == "2026-11-22T12:00:00.000Z"
    await write(cassandra, [talk.sent(CAUSE, "hi", created_ms=NOON_MS, at=NOON_MS + 2 * DAY_MS, platform_id=talk.wamid("x"))])
    assert await listed(cassandra, tenant) == []


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_go_back_over_days(cassandra: Cassandra, tenant: str, limit: int) -> None:
    """Pages of any size show every open send once, newest first, over empty months and among many that were settled."""
    talk = Talk(tenant=tenant)
    expected: list[str] = []
    for number, days in enumerate([0, 0, 0, 1, 45, 45, 400]):
        at_ms = NOON_MS - days * DAY_MS - number % 2
        await write(cassandra, [unknown(talk, str(number), created_ms=at_ms, at_ms=at_ms)])
        await write(cassandra, [unknown(talk, f"settled {number}", created_ms=at_ms, at_ms=at_ms)])
        await write(cassandra, [talk.status(talk.wamid(str(number)), "sent", at_ms=at_ms, send=talk.send(f"settled {number}"))])
        expected.append(talk.send(str(number)))
    found = await listed(cassandra, tenant, limit=limit)
    assert sorted(found) == sorted(expected)
    times = [(await read_send(cassandra, tenant=tenant, send=each)) for each in found]
    assert [each.at_ms for each in times if each] == sorted((each.at_ms for each in times if each), reverse=True)


async def test_more_of_one_millisecond_than_one_read_brings(cassandra: Cassandra, tenant: str) -> None:
    """A worker that parks hundreds at once loses none of them to the paging."""
    talk = Talk(tenant=tenant)
    await write_rows(cassandra, [row for number in range(450) for row in history_rows(unknown(talk, str(number)))])
    found = await listed(cassandra, tenant, limit=1_000)
    assert sorted(found) == sorted(talk.send(str(number)) for number in range(450))


async def test_what_was_sent_again_is_not_listed(cassandra: Cassandra, tenant: str) -> None:
    """Its doubt was acted on; if the repetition ends unknown as well, that one is listed, under its own id."""
    talk = Talk(tenant=tenant)
    old = talk.send(CAUSE)
    await write(cassandra, [talk.outbound(CAUSE, "hi", at_ms=NOON_MS), unknown(talk)])
    again = talk.outbound(old, "hi", at_ms=NOON_MS + 60_000, id=talk.send(old, "resend"), step="resend")
    await write(cassandra, [again])
    assert await listed(cassandra, tenant) == []
    await write(
        cassandra, [talk.sent(old, "hi", created_ms=NOON_MS + 60_000, platform_id="", outcome="unknown", id=talk.send(old, "resend"))]
    )
    assert await listed(cassandra, tenant) == [talk.send(old, "resend")]
    send = await read_send(cassandra, tenant=tenant, send=old)
    assert send is not None
    assert send.resent_as == talk.send(old, "resend")


async def test_what_a_resend_needs_is_read_back(cassandra: Cassandra, tenant: str) -> None:
    """Address and its kind, priority, agent, the message object byte for byte, and the record that led to it."""
    talk = Talk(tenant=tenant)
    record = talk.outbound(CAUSE, "hi", at_ms=NOON_MS, to="US.123", to_kind="user")
    await write(cassandra, [record])
    send = await read_send(cassandra, tenant=tenant, send=talk.send(CAUSE))
    assert send is not None
    assert await read_content(cassandra, send) is not None
    await write(cassandra, [unknown(talk)])
    send = await read_send(cassandra, tenant=tenant, send=talk.send(CAUSE))
    assert send is not None
    assert (send.to, send.to_kind, send.priority, send.agent, send.outcome) == ("US.123", "user", "high", "default", "unknown")
    content = await read_content(cassandra, send)
    assert content == (b'{"type":"text","text":{"body":"hi"}}', ("raw", 3, 7))


@pytest.mark.parametrize("cursor", ["x", "1", "1.", "-1.x", f"{1 << 80}.x", "."])
async def test_a_cursor_of_nobody_is_refused(cassandra: Cassandra, tenant: str, cursor: str) -> None:
    """A `before` that no page gave out is an error, not an empty page."""
    with pytest.raises(CursorError):
        await read_unknown_sends(cassandra, tenant=tenant, before=cursor)
