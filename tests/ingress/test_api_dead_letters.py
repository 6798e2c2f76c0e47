"""The HTTP contract of dead letters, and what a redrive produces."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from infra.cassandra.dead_letters import Entry, dead_letter_rows, redriven_rows
from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra
from infra.clock import SystemClock
from infra.kafka.record import Record
from infra.settings import Settings
from ingress.api_dead_letters import routes
from ingress.dead_letters_to_topics import RefusedRedriveError, in_order, is_rejected, redriven, refusal_of
from schemas.codec import decode, encode
from schemas.events.dead_letter import DeadLetter, dead_letter_headers, read_redrive
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk
from tests.ingress.test_api_conversations import AsTenant, Away

__all__ = ["cassandra", "history_settings", "tenant"]


def entry(**changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "id": f"{random.getrandbits(128):032x}",
        "tenant": "acme",
        "conversation": "wa:1:2",
        "stage": "streams",
        "cause": "agent-error",
        "error": "no",
        "topic": "raw",
        "partition": 3,
        "offset": 7,
        "attempts": 3,
        "at_ms": SystemClock().now_ms(),
        "letter_partition": 3,
        "letter_offset": 0,
        "size": 2,
    }
    return Entry(**fields | changes)


def record(letter: DeadLetter, value: bytes) -> Record:
    return Record("dead-letters", 3, 0, b"wa:1:2", value, dead_letter_headers(letter), 1)


def letter(topic: str, stage: str, **changes: Any) -> DeadLetter:
    return DeadLetter(stage=stage, cause="x", error="", topic=topic, partition=3, offset=7, attempts=1, at=1, **changes)


def test_the_original_bytes_go_back_where_they_came_from() -> None:
    """Same key, same partition, same bytes; headers name the letter and the items that failed."""
    found = entry()
    planned = redriven(found, record(letter("raw", "streams", items="a,b"), b"\xff"), 5)
    assert (planned.topic, planned.partition, planned.key, planned.value) == ("raw", 3, b"wa:1:2", b"\xff")
    said = read_redrive(planned.headers)
    assert said == (found.id, frozenset({"a", "b"}))


def test_a_send_that_history_could_not_take_says_that_its_id_may_be_old() -> None:
    """The sender reads the same topic: it must look it up before it sends. What is no send goes back as it was."""
    event = Talk().outbound("cause", "hi", at_ms=NOON_MS)
    planned = redriven(entry(topic="outbound-high", stage="history"), record(letter("outbound-high", "history"), event.value), 5)
    before, after = decode(event.value, OutboundEvent), decode(planned.value, OutboundEvent)
    assert after == msgspec.structs.replace(before, lookup=True)
    broken = redriven(entry(topic="outbound-high", stage="history"), record(letter("outbound-high", "history"), b"{"), 5)
    assert broken.value == b"{"


def test_a_send_that_waited_begins_anew_where_it_came_from() -> None:
    """Its place in the ledger is another's business; one that may have left is not sent by a redrive."""
    send = decode(Talk().outbound("cause", "hi", at_ms=NOON_MS, priority="bulk").value, OutboundEvent)
    found, said = entry(topic="ledger", stage="sender", cause="KeyError"), letter("ledger", "sender")
    planned = redriven(found, record(said, encode(PlannedEvent(send=send, state="planned", at=1))), 5)
    assert (planned.topic, decode(planned.value, OutboundEvent)) == ("outbound-bulk", msgspec.structs.replace(send, lookup=True))
    for value in (encode(PlannedEvent(send=send, state="unknown", at=1)), b"{"):
        with pytest.raises(RefusedRedriveError, match=found.id):
            redriven(found, record(said, value), 5)


@pytest.mark.parametrize(
    ("changes", "again", "words"),
    [
        ({}, False, ""),
        ({"topic": ""}, True, "does not say which topic"),
        ({"topic": "accounts"}, True, "does not say which topic"),
        ({"redriven_at_ms": 1}, False, "redriven already"),
        ({"redriven_at_ms": 1}, True, ""),
    ],
)
def test_what_is_refused(changes: dict[str, Any], again: bool, words: str) -> None:
    """Twice by mistake, and what came from no topic of ours: a sentence says why."""
    why_not = refusal_of(entry(**changes), again=again)
    assert words in why_not
    assert bool(words) == why_not.endswith(("--again).", "from."))


def test_only_what_the_platform_refused_is_sent_as_a_new_send() -> None:
    """A send that failed in us has no outcome: its own bytes are what is sent."""
    assert is_rejected(entry(stage="sender", topic="outbound-high", cause="rejected-131026"))
    assert is_rejected(entry(stage="sender", topic="ledger", cause="rejected"))
    assert not is_rejected(entry(stage="sender", topic="outbound-high", cause="KeyError"))
    assert not is_rejected(entry(stage="history", topic="outbound-high", cause="rejected"))


def test_conversations_keep_the_order_of_their_events() -> None:
    """Whatever the clocks of their workers said; other conversations stay where they are."""
    letters = [entry(offset=offset, conversation=key) for offset, key in ((5, "a"), (9, "b"), (3, "a"), (4, "a"), (1, "c"))]
    assert [(each.offset, each.conversation) for each in in_order(letters)] == [(3, "a"), (9, "b"), (4, "a"), (5, "a"), (1, "c")]


@asynccontextmanager
async def calling(session: object, tenant: str, settings: Settings | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    app = Starlette(routes=routes, middleware=[Middleware(AsTenant, tenant=tenant)])
    app.state.cassandra, app.state.settings, app.state.clock = session, settings, SystemClock()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://ingress") as client:
        yield client


@pytest.mark.servers
async def test_a_tenant_sees_its_own_letters(cassandra: Cassandra, tenant: str) -> None:
    """Lists, groups, pages and single letters are the caller's own; another tenant finds nothing, and can redrive nothing."""
    now_ms = SystemClock().now_ms()
    kept = [entry(tenant=tenant, at_ms=now_ms - number, cause="odd" if number % 2 else "even") for number in range(3)]
    for each in kept:
        await write_rows(cassandra, dead_letter_rows(each, stack="Traceback", now_ms=now_ms))
    await write_rows(cassandra, redriven_rows(kept[2], now_ms=now_ms))
    async with calling(cassandra, tenant) as client:
        page = (await client.get("/v1/dead-letters?limit=2")).json()
        assert [each["id"] for each in page["dead_letters"]] == [kept[0].id, kept[1].id]
        rest = (await client.get(f"/v1/dead-letters?limit=2&before={page['before']}")).json()
        assert [(each["id"], each["state"], each["retry_count"]) for each in rest["dead_letters"]] == [(kept[2].id, "redriven", 1)]
        assert rest["before"] is None
        shown = page["dead_letters"][0]
        assert shown["letter"] == {"topic": "dead-letters", "partition": 3, "offset": 0}
        assert (shown["offset"], shown["topic"], shown["redriven_at"]) == (7, "raw", None)
        for query, ids in (("cause=even", [0, 2]), ("state=open", [0, 1]), ("conversation=wa:1:3", []), ("stage=streams", [0, 1, 2])):
            found = (await client.get(f"/v1/dead-letters?{query}")).json()["dead_letters"]
            assert [each["id"] for each in found] == [kept[number].id for number in ids], query
        groups = (await client.get("/v1/dead-letters?group=cause")).json()["groups"]
        assert {(each["cause"], each["open"], each["redriven"]) for each in groups} == {("even", 1, 1), ("odd", 1, 0)}
    async with calling(cassandra, f"{tenant}-other") as client:
        assert (await client.get("/v1/dead-letters")).json() == {"dead_letters": [], "before": None}
        assert (await client.get("/v1/dead-letters?group=cause")).json()["groups"] == []
        assert (await client.get(f"/v1/dead-letters/{kept[0].id}")).status_code == 404
        assert (await client.post(f"/v1/dead-letters/{kept[0].id}/redrive")).status_code == 404


@pytest.mark.servers
async def test_what_the_log_does_not_give_is_said(cassandra: Cassandra, tenant: str) -> None:
    """Without Kafka a letter is shown without its bytes, and a redrive is refused for now rather than half done."""
    kept = entry(tenant=tenant)
    await write_rows(cassandra, dead_letter_rows(kept, stack="Traceback", now_ms=kept.at_ms))
    async with calling(cassandra, tenant, Settings(kafka="127.0.0.1:1", _env_file=None)) as client:
        shown = (await client.get(f"/v1/dead-letters/{kept.id}")).json()
        assert (shown["stack"], shown["original"]) == ("Traceback", "")
        assert "does not answer" in shown["original_missing"]
        for path, body in ((f"/v1/dead-letters/{kept.id}/redrive", b""), ("/v1/dead-letters/redrive", b'{"all":true}')):
            answer = await client.post(path, content=body)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


@pytest.mark.servers
async def test_unusable_parameters_are_refused(cassandra: Cassandra, tenant: str) -> None:
    """Each in a sentence: a redrive of everything is never a slip."""
    async with calling(cassandra, tenant) as client:
        for query in ("limit=0", "before=nonsense", "state=odd", "group=odd"):
            answer = await client.get(f"/v1/dead-letters?{query}")
            assert (answer.status_code, answer.json()["detail"][-1]) == (422, "."), query
        for body in (b"", b"{}", b'{"all":true,"cause":"x"}', b'{"every":true}', b'{"all":true,"limit":0}', b'{"all":true,"after":"x"}'):
            answer = await client.post("/v1/dead-letters/redrive", content=body)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), body


async def test_without_a_database_there_is_no_list() -> None:
    """An empty list would say that all is well; while history is away the answer is 503."""
    async with calling(Away(), "default") as client:
        assert (await client.get("/v1/dead-letters")).status_code == 503
