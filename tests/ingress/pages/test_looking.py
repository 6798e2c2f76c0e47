"""Which records of a topic a query means."""

import pytest

from infra.errors import UsageError
from infra.kafka.selection import Start
from ingress.pages.looking import LISTED, Look, read_after, read_look, written_after
from schemas.topics import RAW, SENT

NOW_MS = 1_795_262_400_000


def look(**query: str) -> Look:
    return read_look({name.rstrip("_"): value for name, value in query.items()}, RAW, now_ms=NOW_MS)


def test_without_words_the_newest_are_meant() -> None:
    """Those to come belong to them; a number of the last ones is at most a page."""
    assert (look().start, look().is_at_end, look().query) == (Start(kind="last", number=LISTED), True, {})
    assert look(from_="-7").start == Start(kind="last", number=7)
    assert look(from_="-70000").start == Start(kind="last", number=LISTED)
    assert look(from_="end").is_at_end


def test_places_in_a_topic() -> None:
    """An offset, a time, so long ago; what comes later does not belong to them."""
    assert look(from_="15m").start == Start(kind="time", number=NOW_MS - 15 * 60_000)
    found = look(from_="1234", partition="3", key="wa:1:2", canaries="yes")
    assert (found.start, found.is_at_end, found.selection.partition) == (Start(kind="offset", number=1234), False, 3)
    assert found.twin == ["ottla", "tail", "raw", "--from", "1234", "--partition", "3", "--key", "wa:1:2", "--canaries"]
    assert found.query == {"from": "1234", "partition": "3", "key": "wa:1:2", "canaries": "yes"}


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "-0"},
        {"partition": "-1"},
        {"partition": "x"},
        {"partition": "٣"},
        {"partition": "9" * 30},
        {"after": "0:x"},
        {"after": "0:1,"},
        {"after": "-1:5"},
        {"key": "x" * 2000},
    ],
)
def test_what_makes_no_sense_is_said(query: dict[str, str]) -> None:
    """In a sentence, which is not about an option of a command."""
    problem = read_look(query, RAW, now_ms=NOW_MS).problem
    assert problem
    assert not problem.startswith("--")


def test_where_a_page_ended_can_be_asked_for() -> None:
    """As it was given out, and for this topic."""
    places = {("sent", 0): 12, ("sent", 7): 0}
    assert read_after(written_after(places), SENT) == places
    found = read_look({"from": "-5", "after": "0:12"}, SENT, now_ms=NOW_MS)
    assert (found.after, found.is_at_end) == ({("sent", 0): 12}, False)
    with pytest.raises(UsageError):
        read_after("", SENT)
