"""infra.lag.figures: rates, drain time, skew and what retention leaves; infra.lag.windows: what they are computed from."""

import pytest

from infra.lag.burrow import State
from infra.lag.figures import as_rows, drain_seconds, lag_seconds, partition_figures, retention_left_seconds, skew, summary
from infra.lag.observation import Observation
from infra.lag.windows import INTERVAL_S, WINDOW, Source, Windows
from schemas.topics import DAY_MS

NOW_MS = 1_800_000_000_000


def seen(
    at_s: float, committed: int | None, end: int, *, begin: int = 0, oldest_ms: int | None = None, owner: str = "worker"
) -> Observation:
    """Return an observation."""
    return Observation(at_s=at_s, committed=committed, begin=begin, end=end, owner=owner, oldest_ms=oldest_ms)


def test_a_partition_s_position_is_what_the_log_still_has() -> None:
    """Nothing committed is the first record kept; what was deleted unprocessed is lost and no lag."""
    assert (seen(0, None, 9, begin=4).lag, seen(0, None, 9, begin=4).lost) == (5, 0)
    assert (seen(0, 1, 9, begin=4).lag, seen(0, 1, 9, begin=4).lost) == (5, 3)
    assert (seen(0, 12, 9).lag, seen(0, 12, 9).lost) == (0, 0)


def test_rates_are_taken_over_the_window() -> None:
    """100 came and 40 were done in 10 s; one look alone has no rate; a topic made anew and an offset set back are no negative rates."""
    figures = partition_figures(3, [seen(5, 10, 20), seen(9, 15, 60), seen(15, 50, 120)], size=WINDOW)
    assert (figures.partition, figures.in_per_s, figures.out_per_s, figures.lag) == (3, 10.0, 4.0, 70)
    alone = partition_figures(0, [seen(5, 10, 20)], size=WINDOW)
    assert (alone.in_per_s, alone.out_per_s) == (None, None)
    back = partition_figures(0, [seen(5, 10, 20), seen(6, 5, 15)], size=WINDOW)
    assert (back.in_per_s, back.out_per_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("lag", "came", "done", "expected"),
    [
        (0, 5.0, 0.0, 0.0),
        (0, None, None, 0.0),
        (100, 10.0, 30.0, 5.0),
        (100, 10.0, 10.0, None),
        (100, 10.0, 2.0, None),
        (9, None, 2.0, None),
    ],
)
def test_drain_time(lag: int, came: float | None, done: float | None, expected: float | None) -> None:
    """The lag by what is done beyond what comes; never, where no more is done than comes."""
    assert drain_seconds(lag, came, done) == expected


def test_seconds_are_counted_from_the_oldest_unprocessed_record() -> None:
    """The age of the record at the committed offset; a broker's clock that is ahead makes no negative age."""
    assert lag_seconds(3, NOW_MS - 61_500, now_ms=NOW_MS) == 61.5
    assert lag_seconds(0, None, now_ms=NOW_MS) == 0.0
    assert lag_seconds(3, None, now_ms=NOW_MS) is None
    assert lag_seconds(3, NOW_MS + 400, now_ms=NOW_MS) == 0.0


def test_what_retention_leaves() -> None:
    """Retention counts from the oldest unprocessed record; below 0 it may be gone at any moment."""
    assert retention_left_seconds(NOW_MS - DAY_MS, 14 * DAY_MS, now_ms=NOW_MS) == 13 * 86_400
    assert retention_left_seconds(NOW_MS - 15 * DAY_MS, 14 * DAY_MS, now_ms=NOW_MS) == -86_400
    assert retention_left_seconds(None, DAY_MS, now_ms=NOW_MS) is None
    assert retention_left_seconds(NOW_MS, None, now_ms=NOW_MS) is None


def test_skew() -> None:
    """1 is even, the number of partitions is all in one, nothing is known where nothing comes."""
    assert skew([2.0, 2.0, 2.0, 2.0]) == 1.0
    assert skew([8.0, 0.0, 0.0, 0.0]) == 4.0
    assert skew([0.0, 0.0]) is None
    assert skew([None, 3.0]) == 1.0


def both(at_s: float, raw: int, end: int, *, oldest_ms: int | None = None) -> dict[Source, Observation]:
    """Return two partitions of [raw], the second one handled to the end, and one of [dead-letters]."""
    return {
        Source("streams", "raw", 1): seen(at_s, end, end),
        Source("streams", "raw", 0): seen(at_s, raw, end, oldest_ms=oldest_ms),
        Source("dead-letters", "dead-letters", 0): seen(at_s, None, 0, owner=""),
    }


def test_rows_for_programs() -> None:
    """A row for each group and topic in the order of the flow, sums over its partitions, the worst state; partitions if they are wanted."""
    windows = Windows()
    for number in range(WINDOW):
        windows.add(both(INTERVAL_S * number, 10, 20 + number, oldest_ms=NOW_MS - 3_000))
    figures = windows.figures()
    raw, letters = as_rows(figures, now_ms=NOW_MS, partitions=False)
    assert raw == {
        "group": "streams",
        "topic": "raw",
        "state": "STALL",
        "complete": 1.0,
        "lag_messages": 21,
        "lag_seconds": 3.0,
        "oldest_unprocessed_at": NOW_MS - 3_000,
        "in_per_second": 0.4,
        "out_per_second": 0.2,
        "drain_seconds": None,
        "retention_left_seconds": 14 * 86_400 - 3,
        "lost_messages": 0,
        "skew": 1.0,
        "owned": 2,
    }
    assert (letters["group"], letters["state"], letters["lag_messages"], letters["owned"]) == ("dead-letters", "OK", 0, 0)
    whole = as_rows(figures, now_ms=NOW_MS, partitions=True)[0]["partitions"]
    assert [(each["partition"], each["state"], each["lag_messages"], each["owner"]) for each in whole] == [
        (0, "STALL", 21, "worker"),
        (1, "OK", 0, "worker"),
    ]
    assert summary([raw, letters])[0] == {"group": "streams", "state": "STALL", "lag_messages": 21, "lag_seconds": 3.0}


def test_looks_in_between_do_not_shorten_the_window() -> None:
    """The newest look counts for what is now; the window still reaches back as far as it did."""
    windows = Windows()
    for number in range(WINDOW):
        windows.add(both(INTERVAL_S * number, 10, 20))
    for number in range(100):
        windows.add(both(INTERVAL_S * (WINDOW - 1) + number / 100, 12, 20))
    (raw, _) = windows.figures()
    assert (raw.complete, raw.lag, raw.state) == (1.0, 8, State.OK)
    assert raw.out_per_s == pytest.approx(2 / (INTERVAL_S * (WINDOW - 1) + 0.99))


def test_a_window_is_bounded_and_begins_anew_after_a_gap() -> None:
    """Any number of looks keeps WINDOW of them; a gap in which nobody could look says nothing; deleted topics are forgotten."""
    windows = Windows()
    for number in range(1_000):
        windows.add(both(INTERVAL_S * number, 10, 20))
    assert {len(kept) for kept in windows._kept.values()} == {WINDOW}
    windows.add(both(INTERVAL_S * 1_010, 10, 20))
    assert windows.figures()[0].complete == pytest.approx(1 / WINDOW)
    assert windows.figures()[0].state is State.OK
    windows.add({})
    assert (windows.figures(), windows._kept) == ([], {})
