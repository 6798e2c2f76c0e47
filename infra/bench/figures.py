"""What a run finds, as figures with what they must be; pure functions that make them out of what was counted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from infra.demo.latency import percentile


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One stretch of work: processor seconds by process, what was done in it, and how long it took."""

    cpu_s: Mapping[str, float]
    count: int
    wall_s: float

    @property
    def rate(self) -> float:
        """How many a second; 0 without time."""
        return self.count / self.wall_s if self.wall_s > 0 else 0.0

    def micros(self, *names: str) -> float:
        """Return processor microseconds for each, of these processes (of all without names); NaN if nothing was done."""
        if not self.count:
            return math.nan
        return 1e6 * sum(seconds for name, seconds in self.cpu_s.items() if not names or name in names) / self.count


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number with its unit and how it was measured; `must` and `goal` bound it, from above if `at_most`, else from below."""

    name: str
    value: float
    unit: str
    how: str
    must: float | None = None
    goal: float | None = None
    at_most: bool = True

    @property
    def verdict(self) -> str:
        """`goal` or `kept` where it is within bounds, `missed` where not, `unknown` without a value; empty without bounds."""
        if self.must is None:
            return ""
        if math.isnan(self.value):
            return "unknown"
        if self.goal is not None and self._within(self.goal):
            return "goal"
        return "kept" if self._within(self.must) else "missed"

    def _within(self, bound: float) -> bool:
        return self.value <= bound if self.at_most else self.value >= bound


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A plot of bars, each made of named parts, in `unit`."""

    file: str
    title: str
    unit: str
    bars: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A plot of how many of the values do not exceed which: a curve for each name, values in milliseconds."""

    file: str
    title: str
    values_ms: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A plot of values over time: for each name points of minutes and values, the latter in `unit`."""

    file: str
    title: str
    unit: str
    points: Mapping[str, Sequence[tuple[float, float]]]


Plot = Bars | Curves | Lines


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one scenario found; `about` says in a sentence or two what was done."""

    name: str
    about: str
    figures: Sequence[Figure]
    plots: Sequence[Plot] = field(default=())


def middle(values: Sequence[float]) -> float:
    """Return the median; NaN without values."""
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else math.nan


def middle_micros(slices: Sequence[Slice], *names: str) -> float:
    """Return the median over slices of the microseconds for each."""
    return middle([each.micros(*names) for each in slices])


def middle_rate(slices: Sequence[Slice]) -> float:
    """Return the median over slices of the rate."""
    return middle([each.rate for each in slices])


def ratio(value: float, floor: float) -> float:
    """Return how many times the floor a value is; NaN if there is no floor."""
    return value / floor if floor > 0 else math.nan


def paired_ratio(values: Sequence[float], floors: Sequence[float]) -> float:
    """Return the median of the ratios of slices that were measured next to each other: what slows both down drops out."""
    return middle([ratio(value, floor) for value, floor in zip(values, floors, strict=True)])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much values grow for each unit of what stands before them, by least squares; NaN for fewer than two places."""
    count = len(points)
    if count == 0:
        return math.nan
    middle_x, middle_y = (sum(values) / count for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return ratio(sum((x - middle_x) * (y - middle_y) for x, y in points), spread)


def latency_figures(what: str, times_s: Sequence[float], how: str) -> list[Figure]:
    """Return p50 and p99 of some times, in milliseconds."""
    return [
        Figure(name=f"{what}, p{share * 100:.0f}", value=1000 * percentile(times_s, share), unit="ms", how=how) for share in (0.5, 0.99)
    ]


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the processor seconds used between two readings; a process that was started between them began at 0."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
