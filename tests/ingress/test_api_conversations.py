"""The HTTP contract of history."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.kafka.record import Record
from ingress.api_conversations import routes
from sinks.history_rows import history_rows
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk

__all__ = ["cassandra", "history_settings", "tenant"]

MESSAGE_FIELDS = {"id", "direction", "at", "type", "text", "platform_id", "status", "statuses", "raw"}


class AsTenant:
    """Stands in for the middleware that knows keys: the caller is whom the test says."""

    def __init__(self, app: ASGIApp, tenant: str) -> None:
        self._app = app
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["tenant"] = self._tenant
        await self._app(scope, receive, send)


@asynccontextmanager
async def calling(session: object, tenant: str) -> AsyncIterator[httpx2.AsyncClient]:
    app = Starlette(routes=routes, middleware=[Middleware(AsTenant, tenant=tenant)])
    app.state.cassandra = session
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://ingress") as client:
        yield client


async def get(session: object, tenant: str, path: str) -> tuple[int, str, dict[str, Any]]:
    async with calling(session, tenant) as client:
        answer = await client.get(path)
        return answer.status_code, answer.headers["content-type"], answer.json()


async def write(cassandra: Cassandra, records: Sequence[Record]) -> None:
    await write_rows(cassandra, [row for record in records for row in history_rows(record)])


@pytest.mark.servers
async def test_a_conversation_has_the_contract_s_shape(cassandra: Cassandra, tenant: str) -> None:
    """Who relies on the contract finds every field, newest message first, each with its statuses and raw record."""
    talk = Talk(tenant=tenant)
    cause = talk.cause(talk.wamid("in"))
    await write(
        cassandra,
        [
            talk.inbound(talk.wamid("in"), "hello", at_ms=NOON_MS),
            talk.outbound(cause, "hi", at_ms=NOON_MS + 30),
            talk.sent(cause, "hi", created_ms=NOON_MS + 30, platform_id=talk.wamid("out")),
            talk.status(talk.wamid("out"), "read", at_ms=NOON_MS + 2_000),
        ],
    )
    status, kind, body = await get(cassandra, tenant, f"/v1/conversations/{talk.key}/messages")
    assert (status, kind) == (200, "application/json")
    assert set(body) == {"conversation", "messages", "before"}
    assert (body["conversation"], body["before"]) == (talk.key, None)
    answer, question = body["messages"]
    assert set(answer) >= MESSAGE_FIELDS
    assert set(question) >= MESSAGE_FIELDS
    assert (question["direction"], question["text"], question["statuses"]) == ("in", "hello", [])
    assert question["raw"] == {"topic": "raw", "partition": 3, "offset": 7}
    assert (answer["direction"], answer["text"], answer["status"]) == ("out", "hi", "read")
    assert answer["statuses"] == [{"status": "read", "at": "2026-11-21T12:00:02.000Z"}]

    status, _, one = await get(cassandra, tenant, f"/v1/messages/{answer['id']}")
    assert (status, one) == (200, answer)

    status, _, listed = await get(cassandra, tenant, "/v1/conversations")
    assert status == 200
    assert [each["conversation"] for each in listed["conversations"]] == [talk.key]
    assert listed["before"] is None


@pytest.mark.servers
async def test_pages_follow_one_another(cassandra: Cassandra, tenant: str) -> None:
    """`before` of a page asks for the next one, up to null; a limit beyond the largest page gives the largest page."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.inbound(talk.wamid(str(number)), str(number), at_ms=NOON_MS + number) for number in range(5)])
    path, texts = f"/v1/conversations/{talk.key}/messages?limit=2", []
    before: str | None = ""
    while before is not None:
        _, _, page = await get(cassandra, tenant, f"{path}&before={before}")
        texts.append([message["text"] for message in page["messages"]])
        before = page["before"]
    assert texts == [["4", "3"], ["2", "1"], ["0"]]
    _, _, page = await get(cassandra, tenant, f"/v1/conversations/{talk.key}/messages?limit=99999999999999999999")
    assert len(page["messages"]) == 5


@pytest.mark.servers
async def test_what_is_another_tenant_s_is_not_there(cassandra: Cassandra, tenant: str) -> None:
    """A tenant gets the same 404 for a conversation of another one as for one that does not exist; the administrator sees it."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.outbound("cause", "hi", at_ms=NOON_MS)])
    for path in (f"/v1/conversations/{talk.key}/messages", f"/v1/messages/{talk.send('cause')}"):
        status, kind, body = await get(cassandra, f"{tenant}-other", path)
        assert (status, kind, body["status"]) == (404, "application/problem+json", 404)
        assert (await get(cassandra, "*", path))[0] == 200
    status, _, listed = await get(cassandra, f"{tenant}-other", f"/v1/conversations?contact={talk.contact}")
    assert (status, listed["conversations"]) == (200, [])
    _, _, listed = await get(cassandra, tenant, f"/v1/conversations?contact=%2B{talk.contact}")
    assert [each["conversation"] for each in listed["conversations"]] == [talk.key]


@pytest.mark.servers
async def test_a_key_with_escapes_is_found_as_it_is_and_as_a_path(cassandra: Cassandra, tenant: str) -> None:
    """The key is URL-safe: who puts it into the path as it is finds it, and who quotes it first as well."""
    talk = Talk(contact="group id/7%:ü", tenant=tenant)
    assert "%" in talk.key
    await write(cassandra, [talk.inbound(talk.wamid("in"), "hello", at_ms=NOON_MS)])
    for spelling in (talk.key, quote(talk.key, safe="")):
        status, _, body = await get(cassandra, tenant, f"/v1/conversations/{spelling}/messages")
        assert (status, body.get("conversation")) == (200, talk.key)


@pytest.mark.servers
@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=²", "before=nonsense"])
async def test_parameters_that_cannot_be_used(cassandra: Cassandra, tenant: str, query: str) -> None:
    """A parameter that cannot be used is a problem with a sentence, not a guess."""
    talk = Talk(tenant=tenant)
    await write(cassandra, [talk.inbound(talk.wamid("in"), "hello", at_ms=NOON_MS)])
    for path in (f"/v1/conversations/{talk.key}/messages", "/v1/conversations"):
        status, kind, body = await get(cassandra, tenant, f"{path}?{query}")
        assert (status, kind) == (422, "application/problem+json")
        assert body["detail"].endswith(".")


class Away:
    """A session whose database stopped answering."""

    async def execute(self, *_: object) -> list[object]:
        raise CassandraAwayError("Cassandra does not answer (test).")


@pytest.mark.parametrize("session", [None, Away()])
@pytest.mark.parametrize(
    "path", ["/v1/conversations", "/v1/conversations?contact=1", "/v1/conversations/wa:1:2/messages", "/v1/messages/x"]
)
async def test_without_a_database_it_is_503(session: object, path: str) -> None:
    """While history is away the answer says so, and when to ask again."""
    async with calling(session, "default") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.headers["retry-after"]
