"""What comes into a topic while its page is open."""

from infra.kafka.record import Record
from ingress.pages.coming import SHOWN_AT_ONCE, Came, places_since


def record(offset: int) -> Record:
    return Record(topic="raw", partition=0, offset=offset, key=b"", value=b"", headers=[], timestamp_ms=0)


def test_the_newest_are_shown_and_the_others_counted() -> None:
    """However fast they come, a moment's are bounded."""
    came = Came()
    for offset in range(SHOWN_AT_ONCE + 40):
        came.add(record(offset))
    shown, passed = came.take()
    assert ([each.offset for each in shown], passed) == (list(range(40, SHOWN_AT_ONCE + 40)), 40)
    assert came.take() == ([], 0)


def test_who_was_away_for_long_begins_with_what_comes_now() -> None:
    """A moment's absence is made good; a partition that is new to the page begins at its end."""
    ends = {("raw", 0): 10_000, ("raw", 1): 50}
    assert places_since({("raw", 0): 9_990}, ends) == {("raw", 0): 9_990, ("raw", 1): 50}
    assert places_since({("raw", 0): 10, ("raw", 1): 50}, ends) == ends
    assert places_since({("raw", 0): 99_999, ("raw", 1): 49}, ends) == {("raw", 0): 10_000, ("raw", 1): 49}
