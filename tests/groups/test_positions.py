"""infra.groups.positions: the words of kafka-consumer-groups, and offsets that stay within the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import UsageError
from infra.groups.positions import Position, Standing, new_offset, parse_duration, parse_file, parse_time, parse_topics

STANDING = Standing(topic="raw", partition=3, committed=40, begin=10, end=100, at_time=55)
OFFSETS = {("raw", 3): 77, ("raw", 4): 1}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Position(to="earliest"), 10),
        (Position(to="latest"), 100),
        (Position(to="current"), 40),
        (Position(to="offset", amount=60), 60),
        (Position(to="offset", amount=3), 10),
        (Position(to="offset", amount=300), 100),
        (Position(to="shift", amount=5), 45),
        (Position(to="shift", amount=-5), 35),
        (Position(to="shift", amount=-500), 10),
        (Position(to="time", amount=1), 55),
        (Position(to="offsets", offsets=OFFSETS), 77),
        (Position(to="offsets", offsets={}), 40),
    ],
)
def test_each_word(position: Position, expected: int) -> None:
    """Each word gives its offset, kept within what the log has."""
    assert new_offset(position, STANDING) == expected


def test_a_time_behind_the_last_record_is_the_end_and_nothing_committed_is_the_beginning() -> None:
    """As kafka-consumer-groups has it."""
    late = Standing(topic="raw", partition=0, committed=None, begin=10, end=100, at_time=None)
    assert new_offset(Position(to="time", amount=1), late) == 100
    assert new_offset(Position(to="current"), late) == 10
    assert new_offset(Position(to="shift", amount=2), late) == 12


@given(
    st.sampled_from(["earliest", "latest", "current", "offset", "shift", "time"]),
    st.integers(-(10**12), 10**12),
    st.one_of(st.none(), st.integers(0, 10**6)),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_no_offset_is_outside_the_log(to: str, amount: int, committed: int | None, begin: int, size: int) -> None:
    """Whatever is asked for, and wherever the group stands."""
    standing = Standing(topic="raw", partition=0, committed=committed, begin=begin, end=begin + size)
    position = Position(to=to, amount=amount)  # type: ignore[arg-type]
    assert begin <= new_offset(position, standing) <= begin + size


def test_times() -> None:
    """UTC unless a zone is named."""
    assert parse_time("2026-11-21T09:30:00") == parse_time("2026-11-21T09:30:00Z") == parse_time("2026-11-21T10:30:00.000+01:00")
    assert parse_time("1970-01-02") == 86_400_000
    for text in ("yesterday", "", "2026-13-01T00:00:00", "9999-12-31T23:59:59-23:59x"):
        with pytest.raises(UsageError):
            parse_time(text)


def test_durations() -> None:
    """Days, hours, minutes and seconds, at least one of them."""
    found = {text: parse_duration(text) for text in ("PT90M", "P2D", "PT1H30M", "P1DT0.5S", "PT0S")}
    assert found == {"PT90M": 5_400_000, "P2D": 172_800_000, "PT1H30M": 5_400_000, "P1DT0.5S": 86_400_500, "PT0S": 0}
    for text in ("", "P", "PT", "1h", "-PT1H", "P1M", "PT1H "):
        with pytest.raises(UsageError):
            parse_duration(text)


def test_files() -> None:
    """As kafka-consumer-groups writes them, quoted or not; a line that is none is named."""
    assert parse_file('raw,0,5\n\n"t-raw",1,0\r\n') == {("raw", 0): 5, ("t-raw", 1): 0}
    for text, line in (("raw,0,5\nraw,x,1\n", 2), ("raw,0,-1\n", 1), ("raw 0 5\n", 1)):
        with pytest.raises(UsageError, match=f"Line {line} "):
            parse_file(text)
    with pytest.raises(UsageError, match="names no offset"):
        parse_file("\n")


def test_topics() -> None:
    """Whole topics and some partitions, also in several words."""
    assert parse_topics(["raw", "sent:1,2", "sent:5"]) == {"raw": None, "sent": frozenset({1, 2, 5})}
    assert parse_topics(["raw:1", "raw"]) == {"raw": None}
    assert parse_topics(["raw", "raw:1"]) == {"raw": None}
    for word in ("raw:", "raw:a", "raw:1,", ":1", "ra w"):
        with pytest.raises(UsageError):
            parse_topics([word])
