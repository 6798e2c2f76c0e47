"""How the pages say things."""

import pytest

from ingress.pages.words import account_of, ago, contact_of, counted, exact, line_of, lines_of, milliseconds, shell, took
from tests.history_events import NOON_MS


@pytest.mark.parametrize(
    ("before_s", "words"),
    [
        (-5, "now"),
        (0.4, "now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (86_400, "1 d ago"),
        (29 * 86_400, "29 d ago"),
        (31 * 86_400, "2026-10-21"),
    ],
)
def test_times_are_said_from_now(before_s: float, words: str) -> None:
    """A date where a month has gone."""
    assert ago(NOON_MS - int(before_s * 1000), NOON_MS) == words


def test_times_to_the_millisecond() -> None:
    """As they are asked for on hover."""
    assert exact("2026-11-21T12:00:00.007Z") == exact(NOON_MS + 7) == "2026-11-21 12:00:00.007 UTC"
    assert milliseconds("2026-11-21T12:00:00.007Z") == NOON_MS + 7


def test_durations_have_a_unit_people_think_in() -> None:
    """From milliseconds to days."""
    assert [took(ms) for ms in (0, 999, 1000, 59_940, 61_000, 3_700_000, 90_000_000)] == [
        "0 ms",
        "999 ms",
        "1.0 s",
        "59.9 s",
        "1 min 1 s",
        "1 h 1 min",
        "1 d 1 h",
    ]


def test_names_of_conversations() -> None:
    """A phone number has its plus; a user id is as the platform spells it; nothing in a key can reverse a line."""
    assert contact_of("wa:1:16505550001") == "+16505550001"
    assert contact_of("wa:1:US.12%2F3") == "US.12/3"
    assert contact_of("wa:1:%E2%80%AE1") == "\\u202e1"
    assert (account_of("wa:106:2"), account_of("odd")) == ("106", "")


def test_text_of_strangers_is_shown_as_what_it_is() -> None:
    """Controls as numbers, lines as lines, and no more than a page takes."""
    assert lines_of("a\nb\r\nc\u202ed\x1b[31m") == ["a", "b", "c\\u202ed\\x1b[31m"]
    assert lines_of("x" * 10, 4) == ["xxxx…"]
    assert line_of("  one\n\n two\tthree ", 100) == "one two three"
    assert line_of("y" * 300, 10) == "yyyyyyyyy…"
    assert lines_of("\ud800") == ["\\ud800"]


def test_commands_are_typed_as_they_are_meant() -> None:
    """What a shell would change is quoted."""
    assert shell(["ottla", "dead-letters", "redrive", "--cause", "it's $HOME"]) == "ottla dead-letters redrive --cause 'it'\"'\"'s $HOME'"


def test_counts() -> None:
    """One of it, or many."""
    assert [counted(number, "reply", "replies") for number in (0, 1, 1234)] == ["0 replies", "1 reply", "1,234 replies"]
