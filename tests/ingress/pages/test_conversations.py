"""The pages of conversations over real history."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from starlette.applications import Starlette

from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra
from infra.kafka.record import Record
from ingress.pages.conversations import LISTED
from sinks.history_rows import history_rows
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk
from tests.ingress.pages.site import ADMIN_KEY, TENANT_KEY, browser, site
from tests.ingress.test_api_conversations import Away

__all__ = ["cassandra", "history_settings", "tenant"]

HOSTILE = "<script>alert(1)</script>\n\"' onload=x {{ 7*7 }} \u202egnp.exe \x1b[2J"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;<br>&#34;&#39; onload=x {{ 7*7 }} \\u202egnp.exe \\x1b[2J"


async def write(cassandra: Cassandra, records: Sequence[Record]) -> None:
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])


def answered(talk: Talk) -> list[Record]:
    cause = talk.cause(talk.wamid("in"))
    return [
        talk.inbound(talk.wamid("in"), HOSTILE, at_ms=NOON_MS, replies=[talk.send(cause)], agent="help"),
        talk.outbound(cause, "hi", at_ms=NOON_MS + 30),
        talk.sent(cause, "hi", created_ms=NOON_MS + 30, platform_id=talk.wamid("out")),
        talk.status(talk.wamid("out"), "read", at_ms=NOON_MS + 2_000),
    ]


@pytest.mark.servers
async def test_a_conversation_is_listed_found_and_shown(cassandra: Cassandra, tenant: str) -> None:
    """In the list and by its number; the thread has both sides and their ticks, the timeline every hop; text is text everywhere."""
    talk = Talk(tenant=tenant)
    await write(cassandra, answered(talk))
    async with browser(site(cassandra, tenant=tenant), TENANT_KEY) as client:
        link = f"/conversations/{talk.key}"
        for path in ("/conversations", f"/conversations?q=%2B{talk.contact}"):
            listed = (await client.get(path)).text
            assert f'href="{link}"' in listed
            assert f"+{talk.contact}" in listed
        thread = (await client.get(link)).text
        assert SHOWN in thread
        assert 'class="ticks two read"' in thread
        assert "alert(1)</script>" not in thread
        for path in (f"{link}?view=timeline", f"{link}/messages/{talk.cause(talk.wamid('in'))}?at={NOON_MS}"):
            timeline = (await client.get(path)).text
            for words in ("Webhook stored", "Decided", "Queued to send", "Sent", "Read", "agent help", "waited 5 ms", "worked 70 ms"):
                assert words in timeline, (path, words)
            assert f"/records/raw/{talk.partition}/7?" in timeline
            assert "alert(1)</script>" not in timeline
        assert (await client.get(f"{link}/messages/{talk.send(talk.cause(talk.wamid('in')))}?at={NOON_MS + 30}")).status_code == 200
        redirected = await client.get(f"/conversations?q={talk.key}")
        assert redirected.headers["location"] == link


@pytest.mark.servers
async def test_pages_follow_one_another(cassandra: Cassandra, tenant: str) -> None:
    """The newest messages first; older ones behind a link, up to the first."""
    talk = Talk(tenant=tenant)
    count = LISTED + 3
    await write(cassandra, [talk.inbound(talk.wamid(str(number)), f"text {number};", at_ms=NOON_MS + number) for number in range(count)])
    async with browser(site(cassandra, tenant=tenant), TENANT_KEY) as client:
        newest = (await client.get(f"/conversations/{talk.key}")).text
        assert f"text {count - 1};" in newest
        assert "text 2;" not in newest
        before = newest.partition('href="?before=')[2].partition('"')[0]
        older = (await client.get(f"/conversations/{talk.key}?before={before}")).text
        assert [f"text {number};" in older for number in range(5)] == [True, True, True, False, False]
        assert 'data-live="' not in older
        assert (await client.get("/conversations?before=nonsense")).status_code == 422


@pytest.mark.servers
async def test_what_is_another_tenant_s_is_not_there(cassandra: Cassandra, tenant: str) -> None:
    """Not by its link, not by its number; the administrator sees it."""
    talk = Talk(tenant=tenant)
    await write(cassandra, answered(talk))
    message = f"/messages/{talk.cause(talk.wamid('in'))}?at={NOON_MS}"
    app = site(cassandra, tenant=f"{tenant}-other")
    async with browser(app, TENANT_KEY) as client:
        for path in (f"/conversations/{talk.key}", f"/conversations/{talk.key}?view=timeline", f"/conversations/{talk.key}{message}"):
            assert (await client.get(path)).status_code == 404
        assert talk.key not in (await client.get(f"/conversations?q={talk.contact}")).text
        assert "/audit" not in (await client.get("/conversations")).text
    async with browser(app, ADMIN_KEY) as client:
        assert (await client.get(f"/conversations/{talk.key}{message}")).status_code == 200


async def first_change(app: Starlette, query: str, key: str = TENANT_KEY) -> dict[str, str]:
    """Return the first change that a stream tells; the stream ends behind it."""
    app.state.is_leaving = lambda: app.state.clock.by_s > 0
    async with browser(app, key) as client:
        asking = asyncio.create_task(client.get(f"/events?{query}"))
        await asyncio.sleep(0)
        while not app.state.streams:
            await asyncio.sleep(0.01)
            if asking.done():
                break
        app.state.is_leaving = iter([False, *[True] * 10_000]).__next__
        text = (await asking).text
    data = next(line for line in text.splitlines() if line.startswith("data: "))
    change: dict[str, str] = json.loads(data.removeprefix("data: "))
    return change


@pytest.mark.servers
@pytest.mark.parametrize("view", ["conversations", "thread", "timeline"])
async def test_an_open_page_is_told_what_changes(cassandra: Cassandra, tenant: str, view: str) -> None:
    """The same elements as on the page, also escaped; of another tenant nothing."""
    talk = Talk(tenant=tenant)
    await write(cassandra, answered(talk))
    query = f"view={view}&conversation={talk.key}"
    change = await first_change(site(cassandra, tenant=tenant), query)
    assert talk.contact in change["html"] or talk.key in change["html"]
    assert "alert(1)</script>" not in change["html"]
    assert (await first_change(site(cassandra, tenant=f"{tenant}-other"), query))["html"] == ""


async def test_without_a_database_it_is_said() -> None:
    """An empty list would say that nobody wrote."""
    for session in (None, Away()):
        async with browser(site(session), ADMIN_KEY) as client:
            for path in ("/conversations", "/conversations?q=1", "/conversations/wa:1:2", "/conversations/wa:1:2/messages/x?at=1"):
                answer = await client.get(path)
                assert answer.status_code == 503
                assert "History is away" in answer.text
