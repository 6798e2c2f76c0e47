"""A message as lines of a timeline."""

from typing import Any

import pytest

from infra.timeline import message_lines

HOPS = [
    {"name": "outbound", "at": "2026-11-21T12:00:00.030Z", "record": {"topic": "outbound-high", "partition": 3, "offset": 11}},
    {
        "name": "sent",
        "at": "2026-11-21T12:00:00.110Z",
        "record": {"topic": "sent", "partition": 3, "offset": 4},
        "waited_ms": 4,
        "worked_ms": 70,
        "detail": "accepted",
    },
]


def message(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "at": "2026-11-21T12:00:00.030Z",
        "direction": "out",
        "type": "text",
        "text": "hi",
        "status": "read",
        "statuses": [],
        "error_code": 0,
        "error": "",
        "hops": HOPS,
    }
    return fields | changes


def test_a_message_and_its_hops() -> None:
    """One line for the message, one for each hop with its record and what it waited and worked."""
    assert message_lines(message()) == [
        "2026-11-21 12:00:00.030  out  text  hi  ✓✓ read",
        "    outbound  12:00:00.030  outbound-high/3/11",
        "    sent      12:00:00.110  sent/3/4            waited 4 ms, worked 70 ms  accepted",
    ]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("queued", "… queued"),
        ("accepted", "✓ accepted"),
        ("sent", "✓ sent"),
        ("delivered", "✓✓ delivered"),
        ("played", "✓✓ played"),
        ("failed", "✗ failed (131026 undeliverable)"),
        ("rejected", "✗ rejected (131026 undeliverable)"),
    ],
)
def test_ticks(status: str, shown: str) -> None:
    """Ticks as people know them; what failed says why."""
    line = message_lines(message(status=status, error_code=131026, error="undeliverable"))[0]
    assert line.endswith(f"hi  {shown}")


def test_the_reason_of_a_failed_status() -> None:
    """The platform's own reason is shown, from the status that brought it."""
    statuses = [{"status": "sent", "at": ""}, {"status": "failed", "at": "", "error_code": 131047, "error": "re-engagement"}]
    assert message_lines(message(status="failed", statuses=statuses))[0].endswith("✗ failed (131047 re-engagement)")


def test_strangers_cannot_write_on_the_terminal() -> None:
    """Nothing in a message reaches the terminal as a control."""
    evil = "\x1b[31m\u202e\n"
    hop = {"name": evil, "at": "2026-11-21T12:00:00Z", "record": {"topic": evil, "partition": 0, "offset": 0}, "detail": evil}
    lines = message_lines(message(text=evil, type=evil, status=evil, error=evil, hops=[hop], statuses=[{"error": evil}]))
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_an_endless_text_is_cut() -> None:
    """A page of text does not push the rest of the timeline away; its length is said."""
    line = message_lines(message(text="x" * 64_000, hops=[]))[0]
    assert len(line) < 2_200
    assert "(64000 characters)" in line


def test_hops_that_were_shown_are_left_out() -> None:
    """Following shows what is new of a message."""
    assert message_lines(message(), hops_shown=1)[1:] == ["    sent  12:00:00.110  sent/3/4  waited 4 ms, worked 70 ms  accepted"]
