"""The way of a message: its turn, its hops, and why there is no answer."""

from typing import Any

import pytest

from infra.cassandra.history import Hop, Message, Position, Status
from infra.clock import iso
from ingress.pages.way import notice_of, turns_of, way_of
from schemas.events.config import Agent
from tests.history_events import NOON_MS


def message(name: str, at_ms: int, **changes: Any) -> Message:
    fields: dict[str, Any] = {
        "id": name,
        "direction": "in",
        "at": iso(NOON_MS + at_ms),
        "type": "text",
        "text": f"text of {name}",
        "platform_id": "",
        "status": "received",
        "statuses": [],
        "raw": None,
        "kind": "message",
        "conversation": "wa:1:16505550001",
        "tenant": "default",
        "platform_at": None,
        "sender": None,
        "decision": "answered",
        "reason": "",
        "replies": [],
        "agent": "help",
        "cause": "",
        "step": "",
        "priority": "",
        "attempts": 0,
        "http_status": 0,
        "error_code": 0,
        "error": "",
        "hops": [],
        "platform_ids": [],
        "settled": False,
    }
    return Message(**fields | changes)


def answer(name: str, at_ms: int, cause: str, **changes: Any) -> Message:
    return message(name, at_ms, **{"direction": "out", "kind": "send", "cause": cause, "status": "read", "decision": ""} | changes)


def hop(name: str, at_ms: int, **changes: Any) -> Hop:
    return Hop(name=name, at=iso(NOON_MS + at_ms), **changes)


def test_answers_stand_with_what_they_answer() -> None:
    """Also one that was sent again; what nobody asked for stands alone, newest first."""
    found = turns_of(
        [
            answer("alone", 900, ""),
            answer("again", 800, "reply-1"),
            answer("reply-2", 300, "q2"),
            message("q2", 200),
            answer("reply-1", 150, "q1"),
            message("q1", 100),
        ]
    )
    assert [(turn.first.id, [each.id for each in turn.answers]) for turn in found] == [
        ("alone", []),
        ("q2", ["reply-2"]),
        ("q1", ["reply-1", "again"]),
    ]


def test_every_hop_has_its_bar_and_its_record() -> None:
    """Waited, worked and the time between, on one scale; what the platform told on its own."""
    place = Position(topic="inbound", partition=3, offset=7)
    question = message("q", 0, hops=[hop("received", 0), hop("decided", 100, record=place, waited_ms=20, worked_ms=60, detail="answered")])
    sent = answer(
        "r",
        100,
        "q",
        hops=[
            hop("outbound", 100, detail="high"),
            hop("sent", 200, waited_ms=10, worked_ms=50, detail="accepted"),
            hop("platform sent", -500),
            hop("read", 4200),
        ],
        step="reply",
        attempts=2,
        http_status=200,
    )
    way = way_of(turns_of([sent, question])[0], {"help": Agent(id="help", kind="openai", model="m")})
    ours, told = way.phases
    assert (ours.span_ms, told.span_ms) == (200, 4000)
    assert [step.name for step in ours.steps] == ["Webhook stored", "Decided", "Queued to send", "Sent"]
    decided = ours.steps[1]
    assert [(bar.kind, bar.x, bar.width) for bar in decided.bars] == [("between", 0, 100), ("wait", 100, 100), ("work", 200, 300)]
    assert (decided.record, decided.since_ms, decided.detail) == (place, 100, "answered · agent help (openai m)")
    assert ours.steps[3].detail == "accepted · HTTP 200 · 2 attempts"
    # The platform's clock tells whole seconds: what it tells is not before what it was told of.
    assert [(step.name, step.since_ms) for step in told.steps] == [("Left the platform", 200), ("Read", 4200)]
    assert all(0 <= bar.x <= 1000 and 0 < bar.width <= 1000 for phase in way.phases for step in phase.steps for bar in step.bars)
    assert (way.is_question, way.answers, way.notice) == (True, ["text of r"], None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (message("q", 0), ""),
        (message("q", 0, decision="failed", reason="model-timeout"), "the agent failed (model-timeout)"),
        (message("q", 0, decision="stored", reason="late"), "over 24 hours"),
        (message("q", 0, decision="stored", kind="reaction"), ""),
        (answer("r", 0, "q"), ""),
        (answer("r", 0, "q", status="unknown", error="connection reset"), "nobody knows yet"),
        (answer("r", 0, "q", status="rejected", error_code=131026, error="no"), "Refused (131026 no)."),
        (answer("r", 0, "q", status="failed", statuses=[Status(status="failed", at=iso(0), error_code=5)]), "did not deliver this (5)"),
        (answer("r", 0, "q", platform_ids=["a", "b"]), "2 times: a, b"),
    ],
)
def test_why_there_is_no_answer(found: Message, words: str) -> None:
    """One sentence where something is not as it should be, none where it is."""
    notice = notice_of(found)
    assert (words in notice.text) if notice is not None and words else (notice is None and not words)


def test_what_was_redriven_is_answered_after_all() -> None:
    """The fallback is no answer; what a redrive brought is one."""
    question, sorry, real = (
        message("q", 0, decision="failed", reason="model-timeout"),
        answer("f", 1, "q", step="fallback"),
        answer("r", 2, "q", step="redrive"),
    )
    only_sorry = notice_of(question, [sorry])
    assert only_sorry is not None
    assert only_sorry.kind == "bad"
    both = notice_of(question, [sorry, real])
    assert both is not None
    assert (both.kind, "answered when it was redriven" in both.text) == ("warn", True)
