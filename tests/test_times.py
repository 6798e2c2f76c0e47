"""Times as people write them."""

import pytest

from infra.errors import UsageError
from infra.times import read_time, shown_time

NOW_MS = 1_795_262_400_000  # 2026-11-21 12:00:00 UTC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-21 12:00:00"),
        ("-90s", "2026-11-21 11:58:30"),
        ("-90m", "2026-11-21 10:30:00"),
        ("-2h", "2026-11-21 10:00:00"),
        ("-8d", "2026-11-13 12:00:00"),
        ("-1w", "2026-11-14 12:00:00"),
        ("-999999999w", "1970-01-01 00:00:00"),
        ("2026-11-01", "2026-11-01 00:00:00"),
        ("2026-11-01 14:30", "2026-11-01 14:30:00"),
        ("2026-11-01T14:30:00+01:00", "2026-11-01 13:30:00"),
        ("2026-11-01T14:30:00Z", "2026-11-01 14:30:00"),
        ("1960-01-01", "1970-01-01 00:00:00"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert shown_time(read_time(text, now_ms=NOW_MS)) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2h", "-2y", "-h", "12:00", "2026-13-01", "-2 h", "\x1b[2J", "9" * 400])
def test_what_is_no_time_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_time(text, now_ms=NOW_MS)
    assert str(caught.value).isprintable()


def test_a_time_that_is_no_date_is_shown_as_its_number() -> None:
    assert shown_time(10**18) == str(10**18)
