"""The arithmetic of figures: microseconds for each, ratios of turns, bounds."""

import math

import pytest

from infra.bench.figures import Figure, Slice, latency_figures, middle, middle_micros, middle_rate, paired_ratio, ratio, slope, used


def turn(count: int, wall_s: float = 2.0, **cpu_s: float) -> Slice:
    """Return a turn."""
    return Slice(cpu_s=cpu_s, count=count, wall_s=wall_s)


def test_microseconds_for_each_of_some_processes_or_all() -> None:
    one = turn(1_000, kafka=0.5, streams=1.5)
    assert one.micros("streams") == pytest.approx(1_500)
    assert one.micros() == pytest.approx(2_000)
    assert one.micros("streams", "kafka") == pytest.approx(2_000)
    assert one.micros("nobody") == 0
    assert one.rate == 500


def test_nothing_done_is_no_figure() -> None:
    assert math.isnan(turn(0, streams=1.0).micros())
    assert turn(3, wall_s=0.0).rate == 0
    assert math.isnan(middle([]))
    assert math.isnan(ratio(3.0, 0.0))


def test_medians_over_turns_pass_over_what_is_not_known() -> None:
    turns = [turn(1_000, a=1.0), turn(0, a=9.0), turn(1_000, a=3.0), turn(1_000, a=2.0)]
    assert middle_micros(turns, "a") == pytest.approx(2_000)
    assert middle_rate(turns[:1]) == 500


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """A turn in which the whole machine was slow counts like any other: floor and value were both slow."""
    assert paired_ratio([20.0, 2_000.0, 30.0], [10.0, 1_000.0, 10.0]) == 2.0
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0], [1.0, 2.0])


def test_used_between_two_readings() -> None:
    assert used({"a": 1.0, "gone": 3.0}, {"a": 1.5, "new": 0.25}) == {"a": 0.5, "new": 0.25}


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        (19.0, True, "goal"),
        (20.0, True, "goal"),
        (25.0, True, "kept"),
        (30.1, True, "missed"),
        (math.nan, True, "unknown"),
        (40.0, False, "kept"),
        (19.0, False, "missed"),
    ],
)
def test_verdicts(value: float, at_most: bool, verdict: str) -> None:
    goal = 20.0 if at_most else None
    figure = Figure(name="x", value=value, unit="", how="", must=30.0, goal=goal, at_most=at_most)
    assert figure.verdict == verdict
    assert Figure(name="x", value=value, unit="", how="").verdict == ""


def test_latencies_in_milliseconds() -> None:
    p50, p99 = latency_figures("reply", [each / 1000 for each in range(1, 101)], "how")
    assert (p50.name, p50.value, p99.name, p99.value) == ("reply, p50", 50.0, "reply, p99", 99.0)


def test_a_slope_is_that_of_all_points() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 5.0), (1.0, 4.0), (2.0, 6.0), (3.0, 5.0)]) == pytest.approx(0.2)
    assert math.isnan(slope([(1.0, 5.0)]))
    assert math.isnan(slope([]))
