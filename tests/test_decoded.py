"""infra.decoded: what a record says, as JSON, whatever its bytes are."""

import base64
import json

import pytest

from infra.decoded import EVENTS, as_json, decoded
from infra.kafka.record import Record
from schemas.codec import Headers, encode
from schemas.events.config import Account, Tenant
from schemas.events.dead_letter import DeadLetter, dead_letter_headers
from schemas.topics import ACCOUNTS, CONVERSATIONS_CHANGELOG, DEAD_LETTERS, TENANTS, TOPICS
from tests.history_events import NOON_MS, Talk

LETTER = DeadLetter(stage="streams", cause="undecodable", error="no", topic="raw", partition=1, offset=2, attempts=1, at=NOON_MS)


def record(topic: str, value: bytes, *, key: bytes = b"k", headers: Headers | None = None) -> Record:
    return Record(topic, 3, 14, key, value, headers or [], NOON_MS + 5)


def test_every_event_of_the_table_is_known() -> None:
    """A topic whose events are ours is decoded as them; the others hold any bytes, or a stage's own rows."""
    spoken_of = {topic.name: set(topic.event.split(", ")) for topic in TOPICS}
    known = {name: {each.__name__ for each in getattr(event, "__args__", (event,))} for name, event in EVENTS.items()}
    assert {name: known.get(name) for name in spoken_of} == spoken_of | {DEAD_LETTERS.name: None, CONVERSATIONS_CHANGELOG.name: None}


def test_all_of_a_record() -> None:
    """Where it stands, when, whose, and the event as it was written."""
    sent = Talk(contact="1").sent("c", "hello", created_ms=NOON_MS, platform_id="wamid.1")
    shown = as_json(decoded(record("sent", sent.value, key=b"wa:1:1", headers=[("a", b"1"), ("b", b"x\xff"), ("a", b"2"), ("a", b"3")])))
    assert shown == {
        "topic": "sent",
        "partition": 3,
        "offset": 14,
        "time": "2026-11-21T12:00:00.005Z",
        "key": "wa:1:1",
        "headers": {"a": ["1", "2", "3"], "b": "x\\xff"},
        "size": len(sent.value),
        "event": json.loads(sent.value),
    }


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("sent", b""),
        ("sent", b"garbage \xff\x1b[2J"),
        ("sent", b'{"v": 2}'),
        ("sent", b"[" * 100_000),
        ("raw", b"null"),
        ("streams-conversations-changelog", b"\x00"),
        ("streams-conversations-changelog", b"[" * 100_000),
        ("streams-conversations-changelog", b"1" * 5_000),
        ("dead-letters", b"{}"),
    ],
)
def test_what_cannot_be_read_is_there_as_bytes(topic: str, value: bytes) -> None:
    """With the reason; nothing raises."""
    shown = as_json(decoded(record(topic, value)))
    assert shown["event"] is None
    assert shown["undecodable"]
    assert base64.b64decode(shown["base64"]) == value


def test_a_dead_letter_is_read_as_what_it_was() -> None:
    """Its headers say where it came from; that its bytes cannot be read is often why it is here."""
    part = Talk(contact="1").status("wamid.1", "sent", at_ms=NOON_MS).value
    assert decoded(record("dead-letters", part, headers=dead_letter_headers(LETTER))).event is not None
    found = decoded(record("dead-letters", b"[]", headers=dead_letter_headers(LETTER)))
    assert found.problem == "WebhookPart or RoutedPart or CanaryEvent: Expected `object`, got `array`"


def test_a_deletion_is_no_defect() -> None:
    """In the compacted topics a record without a value deletes."""
    shown = as_json(decoded(record(TENANTS.name, b"")))
    assert (shown["event"], shown["deleted"], "undecodable" in shown) == (None, True, False)
    assert as_json(decoded(record(TENANTS.name, encode(Tenant(id="a")))))["event"] == {"v": 1, "id": "a"}


def test_secrets_are_masked() -> None:
    """Neither the event nor its JSON has them, and bytes that may hold some are not shown."""
    account = Account(id="shop", phone_number_id="1", token="hush-1", app_secret="hush-2")
    found = decoded(record(ACCOUNTS.name, encode(account)))
    assert "hush" not in repr(found.event) + repr(found.content) + repr(as_json(found))
    assert as_json(found)["event"]["token"] == "***"
    assert "token" not in as_json(decoded(record(ACCOUNTS.name, encode(Account(id="shop", phone_number_id="1")))))["event"]
    tenant = as_json(decoded(record(TENANTS.name, encode(Tenant(id="acme", key="hush-hush-hush-hush")))))
    assert (tenant["event"]["key"], "hush" in str(tenant)) == ("***", False)
    damaged = as_json(decoded(record(ACCOUNTS.name, encode(account)[:-1])))
    assert damaged["undecodable"]
    assert "base64" not in damaged
