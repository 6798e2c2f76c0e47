"""POST /v1/messages/{id}/retry: what may be sent again, as what, and GET /v1/sends."""

from typing import Any

import msgspec
import pytest

from infra.cassandra.rows import write_rows
from infra.cassandra.sends import Content, Send
from infra.cassandra.session import Cassandra
from ingress.retry_to_outbound import refusal, resend_of
from schemas.events.inbound import RecordPosition
from schemas.ids import send_id
from sinks.history_rows import history_rows
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk
from tests.ingress.test_api_conversations import Away, calling, get

__all__ = ["cassandra", "history_settings", "tenant"]

CONTENT = Content(b'{"type":"text","text":{"body":"hi"}}', ("raw", 3, 7))


def send(**changes: Any) -> Send:
    fields: dict[str, Any] = {
        "id": "0" * 32,
        "tenant": "acme",
        "conversation": "wa:1:2",
        "channel": "whatsapp",
        "account": "1",
        "to": "2",
        "to_kind": "phone",
        "priority": "high",
        "agent": "help",
        "outcome": "unknown",
        "attempts": 1,
        "at_ms": NOON_MS,
        "planned_ms": NOON_MS,
        "error": "answer lost",
        "platform_ids": [],
        "resent_as": "",
    }
    return Send(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": "accepted", "platform_ids": ["wamid.1"]}, "accepted by the platform as wamid.1"),
        ({"platform_ids": ["wamid.1"]}, "is settled"),
        ({"outcome": "accepted", "platform_ids": ["wamid.1", "wamid.2"]}, "sent twice already"),
        ({"outcome": ""}, "has no outcome yet"),
        ({"outcome": "", "platform_ids": ["wamid.1"]}, "accepted by the platform as wamid.1"),
        ({"resent_as": "1" * 32}, "sent again already, as " + "1" * 32),
    ],
)
def test_what_may_have_arrived_for_certain_is_refused(changes: dict[str, Any], words: str) -> None:
    """Accepted, settled, under way or sent again already: one sentence says why it is not sent again."""
    sentence = refusal(send(**changes))
    assert words in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("outcome", ["unknown", "rejected"])
def test_what_did_not_arrive_or_nobody_knows_may_be_sent_again(outcome: str) -> None:
    """That is what resending is for."""
    assert refusal(send(outcome=outcome)) == ""


def test_a_resend_is_the_same_message_under_an_id_made_from_the_old_one() -> None:
    """A second call makes the same id, so that it is one send; the step and the cause mark it."""
    first, second = (resend_of(send(), CONTENT, now_ms=now_ms) for now_ms in (NOON_MS, NOON_MS + 1))
    assert first.id == second.id == send_id(conversation="wa:1:2", cause="0" * 32, step="resend") != "0" * 32
    assert (first.step, first.cause, first.created_at) == ("resend", "0" * 32, NOON_MS)
    assert (first.tenant, first.account, first.to, first.to_kind, first.priority, first.agent) == (
        "acme",
        "1",
        "2",
        "phone",
        "high",
        "help",
    )
    assert first.message == msgspec.Raw(CONTENT.payload)
    assert first.raw == RecordPosition(topic="raw", partition=3, offset=7)


def test_the_kind_of_an_address_from_before_it_was_kept() -> None:
    """Rows of older versions don't say what the recipient is: a business-scoped user id is known by its look."""
    assert resend_of(send(to_kind="", to="US.12345"), CONTENT, now_ms=NOON_MS).to_kind == "user"
    assert resend_of(send(to_kind="", to="16505550001"), CONTENT, now_ms=NOON_MS).to_kind == "phone"
    assert resend_of(send(to_kind="group", to="abc"), CONTENT._replace(raw=None), now_ms=NOON_MS).to_kind == "group"


@pytest.mark.servers
async def test_unknown_sends_over_http(cassandra: Cassandra, tenant: str) -> None:
    """The list has pages and belongs to one tenant; another outcome and a bad parameter are refused in a sentence."""
    talk = Talk(tenant=tenant)
    for number in range(3):
        record = talk.sent(str(number), "hi", created_ms=NOON_MS + number, platform_id="", outcome="unknown")
        await write_rows(cassandra, history_rows(record))
    status, _, page = await get(cassandra, tenant, "/v1/sends?outcome=unknown&limit=2")
    assert (status, [each["id"] for each in page["sends"]]) == (200, [talk.send("2"), talk.send("1")])
    status, _, rest = await get(cassandra, tenant, f"/v1/sends?outcome=unknown&limit=2&before={page['before']}")
    assert (status, [each["id"] for each in rest["sends"]], rest["before"]) == (200, [talk.send("0")], None)
    assert (await get(cassandra, f"{tenant}-other", "/v1/sends"))[2] == {"sends": [], "before": None}
    for query in ("outcome=accepted", "limit=0", "before=nonsense"):
        status, kind, body = await get(cassandra, tenant, f"/v1/sends?{query}")
        assert (status, kind) == (422, "application/problem+json")
        assert body["detail"].endswith(".")


async def test_without_a_database_there_is_no_list() -> None:
    """An empty list would say that all is well; while history is away the answer is 503."""
    async with calling(Away(), "default") as client:
        assert (await client.get("/v1/sends?outcome=unknown")).status_code == 503
