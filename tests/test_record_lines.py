"""infra.record_lines: one readable line for a record of every kind."""

import json
from pathlib import Path
from typing import Any

import pytest

import infra.simulator
import schemas
from infra.decoded import decoded
from infra.kafka.record import Record
from infra.record_lines import record_line, summary
from infra.simulator.webhooks import Wanted, build
from schemas.channels import CHANNELS
from schemas.codec import Headers, encode
from schemas.events.config import Account
from schemas.events.dead_letter import DeadLetter, dead_letter_headers, redrive_headers
from schemas.events.webhook_part import WebhookPart
from tests.history_events import NOON_MS, Talk

TALK = Talk(contact="16505550001")
CAUSE = "c" * 32
PAYLOADS = Path(infra.simulator.__file__).parent / "payloads"
SEND = TALK.send(CAUSE)


def told(topic: str, value: bytes, headers: Headers | None = None) -> str:
    return summary(decoded(Record(topic, 3, 14, TALK.key.encode(), value, headers or [], NOON_MS)))


def example(name: str) -> bytes:
    return (Path(schemas.__file__).parent / "examples" / f"{name}.json").read_bytes()


def part(kind: str, **wanted: Any) -> tuple[str, bytes]:
    """Return topic and value of the first part of a simulated webhook."""
    body = build(kind, Wanted(account="106540352242922", phone="16505550001", **wanted))[0]
    first = CHANNELS["whatsapp"].split(body, received_at_ms=NOON_MS)[0]
    return first.topic, first.value


def test_the_whole_line() -> None:
    """When, where it stands, whose it is, what it says."""
    record = Record("sent", 3, 14, TALK.key.encode(), TALK.sent(CAUSE, "hi", created_ms=NOON_MS, platform_id="w.1").value, [], NOON_MS + 7)
    assert record_line(decoded(record)) == (
        f'2026-11-21 12:00:00.007  sent/3/14             {TALK.key}  accepted text "hi" as w.1, send {SEND}, waited 4 ms, worked 70 ms'
    )


def test_colours_are_there_only_when_asked_for() -> None:
    """What went wrong is red, what waits is yellow."""
    for value, colour in (
        (TALK.sent(CAUSE, "hi", created_ms=1, platform_id="", outcome="rejected", error="no").value, "\x1b[31m"),
        (TALK.sent(CAUSE, "hi", created_ms=1, platform_id="", outcome="unknown", error="cut off").value, "\x1b[33m"),
        (b"garbage", "\x1b[31m"),
    ):
        record = Record("sent", 3, 14, b"k", value, [], NOON_MS)
        assert colour in record_line(decoded(record), colour=True)
        assert record_line(decoded(record)).isprintable()


@pytest.mark.parametrize(
    ("kind", "wanted", "expected"),
    [
        ("text", {"text": "where is my\norder?"}, 'text "where is my\\norder?"'),
        ("status", {"message_id": "wamid.7"}, "delivered wamid.7"),
    ],
)
def test_webhooks(kind: str, wanted: dict[str, str], expected: str) -> None:
    """The words of a message, the state of a send."""
    assert told(*part(kind, **wanted)) == expected


def test_large_batches_are_counted() -> None:
    """The first ones are shown."""
    (first, *_) = CHANNELS["whatsapp"].split((PAYLOADS / "batch-1000-messages__composed__1.json").read_bytes(), received_at_ms=1)
    whole = told("raw", first.value)
    assert whole.count('text "') == 3
    assert whole.endswith(" more")


@pytest.mark.parametrize(
    ("topic", "value", "expected"),
    [
        (
            "inbound",
            TALK.inbound("w.1", "hello", at_ms=NOON_MS, agent="default", replies=[SEND]).value,
            f'answered text "hello", by default, send {SEND}, waited 5 ms, worked 25 ms',
        ),
        (
            "inbound",
            TALK.inbound("w.1", "", at_ms=NOON_MS, decision="stored", reason="echo", direction="out", waited_ms=0, worked_ms=0).value,
            "stored (echo) out text",
        ),
        ("inbound", TALK.linked(Talk(contact="US.1"), at_ms=1).value, f"linked {TALK.key}, which belongs to wa:106540352242922:US.1"),
        ("outbound-high", TALK.outbound(CAUSE, "hi", at_ms=NOON_MS).value, f'reply text "hi" to 16505550001, send {SEND}'),
        (
            "sent",
            TALK.sent(
                CAUSE, "hi", created_ms=1, platform_id="", outcome="rejected", error_code=131047, error="too late", waited_ms=0
            ).value,
            f'rejected text "hi" (131047 too late), send {SEND}, worked 70 ms',
        ),
        (
            "sent",
            TALK.sent(CAUSE, "hi", created_ms=1, platform_id="w.2", settled=True, resent=True, waited_ms=0, worked_ms=0).value,
            f'accepted text "hi" as w.2, send {SEND}, settled by its status, sent once more',
        ),
        (
            "ledger",
            example("planned.v1"),
            (
                'unknown (HTTP 502 without the platform\'s own body) text "Yes: it comes in green and in grey." to 16505551234, '
                "send 8811ebe0b09d47c91921a0f496ab36c3, waits 30 s for a status"
            ),
        ),
        (
            "raw",
            example("routed-part.v2"),
            (
                "ask whose this is wa:106540352242922:16505551234 for wa:106540352242922:US.13491208655302741918 "
                'text "Does it come in another color?"'
            ),
        ),
        ("raw", example("canary.v3"), "canary of 2025-06-08T20:59:44.210Z"),
        ("tenants", b"", "deleted"),
        ("tenants", example("tenant.v1"), 'tenant "The shop"'),
        ("accounts", example("account.v1"), "number 106540352242922 of tenant shop, agent support"),
        ("agents", example("agent.v1"), "agent of kind openai with small of tenant shop"),
        ("streams-conversations-changelog", b'{"v": 1, "done": 7}', '{"v":1,"done":7}'),
        (
            "sent",
            b"\x1b[2J\xff",
            'cannot be read (SentEvent or CanaryEvent: JSON is malformed: invalid character (byte 0)), 5 bytes: "\\x1b[2J\\xff"',
        ),
        ("accounts", b'"very secret', "cannot be read (Account: Input data was truncated), 12 bytes"),
    ],
)
def test_what_matters_of_every_kind(topic: str, value: bytes, expected: str) -> None:
    """One line tells what happened."""
    assert told(topic, value) == expected


def test_a_dead_letter_says_what_went_wrong_and_where() -> None:
    """Cause, error and origin are in its headers, the size of the original is said."""
    letter = DeadLetter(stage="streams", cause="undecodable", error="bad\nbytes", topic="raw", partition=1, offset=2, attempts=1, at=1)
    assert told("dead-letters", b"[]", dead_letter_headers(letter)) == "streams undecodable: bad\\nbytes, from raw/1/2, 2 bytes"
    assert told("dead-letters", b"[]").startswith("dead letter without its headers (not the headers of a dead letter: ")


def test_what_is_redriven_says_so() -> None:
    """The same bytes come a second time for a reason."""
    topic, value = part("text", text="again")
    assert told(topic, value, redrive_headers("a" * 32, "", time_ms=1)) == 'redriven: text "again"'


def test_an_account_s_secrets_are_nowhere() -> None:
    """Neither in the line nor where its record cannot be read."""
    value = encode(Account(id="a", phone_number_id="1", token="very-secret", app_secret="very-secret"))
    assert "secret" not in told("accounts", value) + told("accounts", value[:-1])


def test_strangers_cannot_write_on_the_terminal() -> None:
    """No text of anybody reaches the terminal as a control, and an endless one is cut."""
    evil = "\x1b[31m\u202e\n" + "x" * 10_000
    event = json.loads(TALK.sent(CAUSE, evil, created_ms=1, platform_id=evil, outcome="rejected", error=evil).value) | {"id": evil[:9]}
    record = Record("sent", 3, 14, b"\x1b[2J\xff", json.dumps(event).encode(), [], NOON_MS)
    line = record_line(decoded(record))
    assert line.isprintable()
    assert "(10007 characters)" in line
    routed = json.loads(example("routed-part.v2"))
    routed["route"]["canonical"] = routed["conversation"] = "\x1b"
    assert told("raw", json.dumps(routed).encode()).isprintable()


def test_every_stored_body_has_a_line() -> None:
    """Whatever a platform posts can be shown."""
    for path in PAYLOADS.glob("*.json"):
        for each in CHANNELS["whatsapp"].split(path.read_bytes(), received_at_ms=NOON_MS):
            line = told(each.topic, each.value)
            assert line.isprintable()
            assert line
    assert told("raw", encode(WebhookPart(channel="none", account="", conversation="", received_at=0, changes=[]))) == ""
