"""One person's keys read back: one thread under whatever key it is asked for, one conversation in lists."""

import pytest

from infra.cassandra.aliases import leads_to
from infra.cassandra.listing import find_conversations, read_conversations
from infra.cassandra.reading import read_messages
from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra
from infra.kafka.record import Record
from sinks.history_rows import history_rows
from tests.history_events import NOON_MS, Talk

pytestmark = pytest.mark.servers


async def write(cassandra: Cassandra, *records: Record) -> None:
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])


async def texts(cassandra: Cassandra, talk: Talk, *, limit: int = 100) -> tuple[str, list[str]]:
    """Return the conversation and its texts, oldest first, page by page."""
    found: list[str] = []
    before: str | None = None
    while True:
        page = await read_messages(cassandra, tenant=talk.tenant, conversation=talk.key, before=before, limit=limit)
        assert page is not None
        found += [message.text for message in page.messages]
        before = page.before
        if before is None:
            return page.conversation, found[::-1]


async def test_a_thread_is_the_union_of_its_keys(cassandra: Cassandra, tenant: str) -> None:
    """Before the link there are two threads, after it one, under either key and in pages; lists show one conversation."""
    contact = tenant.removeprefix("tenant-")
    phone, user = Talk(tenant=tenant, contact=f"p{contact}"), Talk(tenant=tenant, contact=f"u{contact}")
    await write(
        cassandra,
        phone.inbound(phone.wamid("1"), "one", at_ms=NOON_MS),
        user.inbound(user.wamid("2"), "two", at_ms=NOON_MS + 1),
        phone.inbound(phone.wamid("3"), "three", at_ms=NOON_MS + 2),
    )
    assert await texts(cassandra, user) == (user.key, ["two"])
    await write(cassandra, user.linked(phone, at_ms=NOON_MS + 3))
    for talk in (phone, user):
        assert await texts(cassandra, talk, limit=1) == (phone.key, ["one", "two", "three"])
    page = await read_conversations(cassandra, tenant=tenant)
    assert [each.conversation for each in page.conversations] == [phone.key]
    for name in (phone.contact, user.contact):
        found = await find_conversations(cassandra, tenant=tenant, contact=name)
        assert [each.conversation for each in found.conversations] == [phone.key]


async def test_a_number_that_changed_hands_keeps_what_was_said(cassandra: Cassandra, tenant: str) -> None:
    """New messages to it lead to the new one; what was said before stays where it was. The newest word counts, whatever comes first."""
    contact = tenant.removeprefix("tenant-")
    phone, old, new = (Talk(tenant=tenant, contact=f"{kind}{contact}") for kind in "pon")
    await write(
        cassandra,
        phone.inbound(phone.wamid("1"), "one", at_ms=NOON_MS),
        old.inbound(old.wamid("2"), "two", at_ms=NOON_MS + 1),
        new.inbound(new.wamid("3"), "three", at_ms=NOON_MS + 2),
        phone.linked(new, at_ms=NOON_MS + 4, is_joined=False),
        phone.linked(old, at_ms=NOON_MS + 3),
    )
    assert await leads_to(cassandra, phone.key) == new.key
    assert await leads_to(cassandra, old.key) == old.key
    assert await texts(cassandra, phone) == (old.key, ["one", "two"])
    assert await texts(cassandra, new) == (new.key, ["three"])
