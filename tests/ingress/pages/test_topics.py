"""Topics on their pages: how far everybody is, records from any place, a page at a time, for the administrator only."""

import html
import re
from collections.abc import AsyncIterator

import pytest

from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.lag.watcher import LagWatcher
from infra.settings import Settings
from ingress.pages.looking import LISTED
from ingress.pages.topics import partitions_of
from schemas.events.canary import canary_keys
from schemas.topics import RAW
from tests.ingress.pages.site import ADMIN_KEY, TENANT_KEY, browser, site

HOSTILE = "<script>\u202e"
KEY = "wa:106540352242922:16505550001"


@pytest.fixture
async def watcher(settings: Settings) -> AsyncIterator[LagWatcher]:
    await create_topics(settings)
    watcher = LagWatcher(settings)
    yield watcher
    await watcher.close()


def offsets(page: str) -> list[str]:
    """Return where the records of a page stand, in its order."""
    return re.findall(r'class="stands">([^<]+)<', page)


@pytest.mark.servers
async def test_a_topic_is_browsed(settings: Settings, watcher: LagWatcher) -> None:
    """The newest first; from an offset or of a key in their order, page by page; whatever they hold; and how far each group is."""
    producer = Producer(settings, client_id="test")
    await producer.start()
    for number in range(LISTED + 10):
        value = f'{{"number":{number},"text":"{HOSTILE}"}}'.encode()
        await producer.send("raw", key=b"wa:1:2" if number % 3 else KEY.encode(), value=value, headers=[], partition=1)
    await producer.send("raw", key=canary_keys(1)[0].encode(), value=b"{}", headers=[], partition=1)
    await producer.send("tenants", key=b"acme", value=b'{"v":1,"id":"acme","key":"s3cret-of-acme"', headers=[], partition=0)
    await producer.stop()
    async with browser(site(settings=settings, lag=watcher), ADMIN_KEY) as client:
        listed = (await client.get("/topics")).text
        assert 'href="/topics/raw"' in listed
        assert re.search(rf"streams</span>.*?>{LISTED + 11}<", listed, re.DOTALL)

        newest = (await client.get("/topics/raw")).text
        assert offsets(newest) == [f"1/{offset}" for offset in range(LISTED + 9, 9, -1)]
        assert "&lt;script&gt;\\u202e" in newest
        assert "<script>\u202e" not in newest
        assert "\u202e" not in newest
        live = re.search(r'data-live="([^"]+)"', newest)
        assert live is not None
        assert f"1%3A{LISTED + 10}" in html.unescape(live[1])
        assert "canary" in (await client.get("/topics/raw?canaries=yes&from=-1")).text

        first = (await client.get("/topics/raw?from=0&partition=1")).text
        assert offsets(first) == [f"1/{offset}" for offset in range(LISTED)]
        assert "data-live=" not in first
        onward = re.search(r'<a class="button" href="(\?[^"]+)">Go on<', first)
        assert onward is not None
        rest = (await client.get(f"/topics/raw{html.unescape(onward[1])}")).text
        assert offsets(rest) == [f"1/{offset}" for offset in range(LISTED, LISTED + 10)]
        assert "Go on" not in rest

        # A key is looked for where its records are, which in this test they are not: all of it is looked at by a phone number.
        one = (await client.get("/topics/raw?from=beginning&key=16505550001")).text
        assert offsets(one) == [f"1/{offset}" for offset in range(0, LISTED + 10, 3)]

        masked = (await client.get("/topics/tenants")).text
        assert "cannot be read" in masked
        assert "s3cret" not in masked


@pytest.mark.servers
async def test_what_cannot_be_shown_is_said(settings: Settings, watcher: LagWatcher) -> None:
    """In a sentence, with the status that goes with it; a tenant sees none of it."""
    app = site(settings=settings, lag=watcher)
    async with browser(app, ADMIN_KEY) as client:
        for path, status, words in (
            ("/topics/no-such", 404, "There is no such topic"),
            ("/topics/raw?from=yesterday", 422, "is no place in a topic"),
            ("/topics/raw?partition=99", 404, "has no partition 99"),
            ("/topics/raw?partition=x", 422, "A partition is a number"),
            ("/topics/raw?after=1:x", 422, "no such page"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, words in answer.text) == (status, True), path
        empty = (await client.get("/topics/inbound")).text
        assert "There is no record yet" in empty
    async with browser(app, TENANT_KEY) as client:
        for path in ("/topics", "/topics/raw"):
            assert (await client.get(path)).status_code == 403
        assert (await client.get("/events?view=records&topic=raw&since=0:0")).status_code == 404


async def test_while_kafka_is_away() -> None:
    """The list is there all the same, and says what is not known."""
    settings = Settings(_env_file=None, kafka="127.0.0.1:1")
    watcher = LagWatcher(settings, timeout_s=0.2)
    try:
        async with browser(site(settings=settings, lag=watcher), ADMIN_KEY) as client:
            answer = await client.get("/topics")
            overview = await client.get("/")
        assert (answer.status_code, "got is not known just now" in answer.text) == (200, True)
        # Nor is Cassandra there.
        assert (overview.status_code, overview.text.count("Not known just now")) == (200, 5)
    finally:
        await watcher.close()


def test_partitions_of_two_groups() -> None:
    """Side by side; of the two answers about a partition's end the later one counts."""

    def partition(number: int, end: int, **changes: object) -> dict[str, object]:
        fields: dict[str, object] = {"state": "OK", "committed": 1, "lag_messages": 0, "lag_seconds": 0.0, "lost_messages": 0, "owner": ""}
        return fields | {"partition": number, "begin": 0, "end": end, "in_per_second": float(number)} | changes

    rows = [
        {"topic": "raw", "group": "a", "complete": 1.0, "partitions": [partition(1, 7), partition(0, 5)]},
        {"topic": "raw", "group": "b", "complete": 0.5, "partitions": [partition(0, 6, owner="x")]},
        {"topic": "sent", "group": "b", "complete": 1.0, "partitions": [partition(3, 9)]},
    ]
    found = partitions_of(RAW, rows)
    assert [(row["partition"], row["end"], list(row["groups"])) for row in found["rows"]] == [(0, 6, ["a", "b"]), (1, 7, ["a"])]
    assert found["rows"][0]["groups"]["b"]["owner"] == "x"
    assert [each["name"] for each in found["groups"]] == ["a", "b"]
    assert found["skew"] == 2.0
    rows[0]["partitions"] = [partition(1, 7, in_per_second=0.2), partition(0, 5)]
    assert partitions_of(RAW, rows)["skew"] is None
