"""Percentiles and histograms of the demo's times. Pure functions; everything is in seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from infra.demo.check import answered_by
from infra.demo.played import PlayedConversation


@dataclass(frozen=True, kw_only=True)
class Bar:
    """How many values lie from `from_s` up to, not including, `to_s`."""

    from_s: float
    to_s: float
    count: int


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank); NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def reply_times(conversations: Sequence[PlayedConversation]) -> list[float]:
    """Return for each first answer the seconds from posting its message to the platform's getting it."""
    times = []
    for played in conversations:
        seen: set[int] = set()
        for number, reply in zip(answered_by(played), played.replies, strict=True):
            if number is not None and number not in seen:
                seen.add(number)
                times.append((reply.at - played.messages[number].posted_at) / 1000)
    return times


def histogram(values: Sequence[float], *, steps_per_decade: int = 6) -> list[Bar]:
    """Return bars of equal width on a logarithmic scale that hold all values, without gaps; none without values."""
    positive = [max(value, 1e-6) for value in values]
    if not positive:
        return []
    low = math.floor(math.log10(min(positive)) * steps_per_decade)
    high = math.floor(math.log10(max(positive)) * steps_per_decade) + 1
    edges = [10 ** (step / steps_per_decade) for step in range(low, high + 1)]
    # The last edge takes what rounding puts just above it.
    edges[-1] = max(edges[-1], math.nextafter(max(positive), math.inf))
    return [Bar(from_s=a, to_s=b, count=sum(a <= value < b for value in positive)) for a, b in pairwise(edges)]


def spoken(seconds: float) -> str:
    """Return a time for people: `8.2 ms`, `312 ms`, `1.24 s`; `-` where there is none."""
    if math.isnan(seconds):
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004
