"""Conversations listed, the one with the newest message first."""

import random

import pytest

from infra.cassandra.listing import find_conversations, read_conversations
from infra.cassandra.reading import EVERY_TENANT, CursorError
from infra.cassandra.rows import DAY_MS, write_rows
from infra.cassandra.session import Cassandra
from infra.settings import Settings
from schemas.events.inbound import Person
from sinks.history_rows import history_rows
from tests.history_events import NOON_MS, Talk

pytestmark = pytest.mark.servers


async def say(cassandra: Cassandra, talk: Talk, at_ms: int, text: str = "hello") -> None:
    await write_rows(cassandra, history_rows(talk.inbound(f"wamid.{talk.contact}.{at_ms}", text, at_ms=at_ms)))


async def list_all(cassandra: Cassandra, tenant: str, limit: int) -> list[str]:
    """Return all keys, newest first, page by page."""
    keys: list[str] = []
    before: str | None = None
    while True:
        page = await read_conversations(cassandra, tenant=tenant, before=before, limit=limit)
        assert len(page.conversations) <= limit
        keys += [each.conversation for each in page.conversations]
        before = page.before
        if before is None:
            return keys


async def test_nobody_has_nothing(cassandra: Cassandra, tenant: str) -> None:
    """A tenant without history has an empty page."""
    page = await read_conversations(cassandra, tenant=tenant)
    assert (page.conversations, page.before) == ([], None)


@pytest.fixture(params=["as they are", "small"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every bound of a read so small that it is met, or leave them."""
    if request.param == "small":
        monkeypatch.setattr("infra.cassandra.listing._SCAN_ROWS", 2)
        monkeypatch.setattr("infra.cassandra.listing._SCANNED_MAX", 7)


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("span_ms", [3_600_000, 30 * DAY_MS])
async def test_every_conversation_once_newest_first(cassandra: Cassandra, tenant: str, limit: int, span_ms: int) -> None:
    """However often and on how many days a conversation was active, it is listed once, where its newest message is."""
    talks = [Talk(tenant=tenant) for number in range(12)]
    newest: dict[str, int] = {}
    for talk in talks:
        times = [NOON_MS - random.randrange(span_ms) for _ in range(random.randrange(1, 6))]
        for at_ms in times:
            await say(cassandra, talk, at_ms)
        newest[talk.key] = max(times)
    assert await list_all(cassandra, tenant, limit) == sorted(newest, key=newest.__getitem__, reverse=True)


async def test_an_entry_shows_its_newest_message(cassandra: Cassandra, tenant: str) -> None:
    """A list shows what was said last, and when."""
    talk = Talk(tenant=tenant)
    await say(cassandra, talk, NOON_MS, "old")
    await say(cassandra, talk, NOON_MS + 1, "new")
    (entry,) = (await read_conversations(cassandra, tenant=tenant)).conversations
    assert (entry.conversation, entry.tenant, entry.direction, entry.text, entry.at) == (
        talk.key,
        tenant,
        "in",
        "new",
        "2026-11-21T12:00:00.001Z",
    )


async def test_one_that_goes_on_while_pages_are_read_is_not_listed_twice(cassandra: Cassandra, tenant: str) -> None:
    """A conversation that moved to the top after the first page was read does not come again on a later one."""
    talks = [Talk(tenant=tenant) for number in range(4)]
    for number, talk in enumerate(talks):
        await say(cassandra, talk, NOON_MS - 1_000 * number)
    first = await read_conversations(cassandra, tenant=tenant, limit=2)
    await say(cassandra, talks[0], NOON_MS + 5_000)
    await say(cassandra, talks[3], NOON_MS + 6_000)
    second = await read_conversations(cassandra, tenant=tenant, limit=2, before=first.before)
    assert [each.conversation for each in first.conversations] == [talks[0].key, talks[1].key]
    assert [each.conversation for each in second.conversations] == [talks[2].key]


async def test_a_thousand_messages_of_one_do_not_hide_another(cassandra: Cassandra, tenant: str) -> None:
    """Behind a very busy conversation the quiet ones are still found."""
    busy, quiet = Talk(tenant=tenant), Talk(tenant=tenant)
    await say(cassandra, quiet, NOON_MS - DAY_MS)
    records = [busy.inbound(f"wamid.{number}", "again", at_ms=NOON_MS + number) for number in range(1_000)]
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])
    for limit in (1, 2):
        assert await list_all(cassandra, tenant, limit) == [busy.key, quiet.key]


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize("bounds", ["small"], indirect=True)
async def test_tenants_are_apart_and_the_administrator_sees_all(settings: Settings, tenant: str) -> None:
    """A tenant lists its own conversations, the administrator those of all tenants in one order."""
    cassandra = await Cassandra.connect(settings)
    tenants = [f"{tenant}-a", f"{tenant}-b", f"{tenant}-c"]
    talks = [Talk(tenant=tenants[number % 3]) for number in range(9)]
    for number, talk in enumerate(talks):
        await say(cassandra, talk, NOON_MS - number)
    assert await list_all(cassandra, tenants[1], 2) == [talk.key for talk in talks[1::3]]
    # The first tenant had much more to say: its rows are not read to their end at once, and the others' have to wait for them.
    for number in range(20):
        await say(cassandra, talks[0], NOON_MS + number)
    for limit in (1, 4, 100):
        assert await list_all(cassandra, EVERY_TENANT, limit) == [talk.key for talk in talks]
    await cassandra.close()


@pytest.mark.parametrize("given", ["{phone}", "+1 {phone}", "{user_id}"])
async def test_a_contact_finds_its_conversations(cassandra: Cassandra, tenant: str, given: str) -> None:
    """A phone number as people write it, or a user id, finds the conversation that is keyed by either."""
    number = f"{random.getrandbits(33):010}"
    phone, user_id = f"1{number}", f"US.{number}"
    given = given.format(phone=f"{number[:3]}-{number[3:]}" if " " in given else phone, user_id=user_id)
    talk = Talk(contact=user_id, tenant=tenant)
    person = Person(name="Ottla", phone=phone, user_id=user_id)
    await write_rows(cassandra, history_rows(talk.inbound("wamid.1", "hello", at_ms=NOON_MS, person=person)))
    found = await find_conversations(cassandra, tenant=tenant, contact=given)
    assert [each.conversation for each in found.conversations] == [talk.key]
    assert (await find_conversations(cassandra, tenant=f"{tenant}-other", contact=given)).conversations == []
    assert talk.key in [
        each.conversation for each in (await find_conversations(cassandra, tenant=EVERY_TENANT, contact=given)).conversations
    ]


@pytest.mark.parametrize("contact", ["", "-", "nobody", "+", "💥"])
async def test_an_unknown_contact_has_no_conversations(cassandra: Cassandra, tenant: str, contact: str) -> None:
    """What is nobody's name finds nothing."""
    assert (await find_conversations(cassandra, tenant=tenant, contact=contact)).conversations == []


@pytest.mark.parametrize("cursor", ["x", "1", "1.", "-1.wa:1:2", f"{1 << 70}.wa:1:2", ".wa:1:2"])
async def test_a_cursor_of_nobody_is_refused(cassandra: Cassandra, tenant: str, cursor: str) -> None:
    """A `before` that no page gave out is an error, not an empty page."""
    with pytest.raises(CursorError):
        await read_conversations(cassandra, tenant=tenant, before=cursor)


async def test_a_page_takes_few_statements(cassandra: Cassandra, tenant: str, statements: list[str]) -> None:
    """However many conversations it has, on however many days they were active, and however many shards those have."""
    talks = [Talk(tenant=tenant) for _ in range(60)]
    # The newest hundred messages are of one day; the days before reach back two years.
    records = [
        talk.inbound(f"wamid.{talk.contact}.{n}", "x", at_ms=NOON_MS - 60 * n - number)
        for n in range(2)
        for number, talk in enumerate(talks)
    ]
    records += [talks[0].inbound(f"wamid.{day}", "old", at_ms=NOON_MS - day * DAY_MS) for day in range(1, 700)]
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])
    statements.clear()
    page = await read_conversations(cassandra, tenant=tenant, limit=25)
    assert [each.conversation for each in page.conversations] == [talk.key for talk in talks[:25]]
    assert len(statements) <= 5, statements
    statements.clear()
    page = await read_conversations(cassandra, tenant=tenant, limit=25, before=page.before)
    assert [each.conversation for each in page.conversations] == [talk.key for talk in talks[25:50]]
    assert len(statements) <= 12, statements
    statements.clear()
    rest = await read_conversations(cassandra, tenant=tenant, limit=100)
    assert (len(rest.conversations), rest.before) == (60, None)


async def test_days_are_read_a_few_at_a_time(cassandra: Cassandra, tenant: str) -> None:
    """Also where a tenant was active on more days than are asked for at once, all of its conversations are listed, and in order."""
    talks = [Talk(tenant=tenant) for _ in range(40)]
    records = [
        talk.inbound(f"wamid.{talk.contact}.{n}", "x", at_ms=NOON_MS - (8 * number + n) * DAY_MS)
        for number, talk in enumerate(talks)
        for n in range(8)
    ]
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])
    assert await list_all(cassandra, tenant, 7) == [talk.key for talk in talks]
