"""The figures of lag that people and programs are shown, computed from windows of observations. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.lag.burrow import State, judge, worst
from infra.lag.observation import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionFigures:
    """One partition: rates are records a second over the window (None: seen only once), `oldest_ms` is milliseconds since 1970."""

    partition: int
    state: State
    committed: int | None
    begin: int
    end: int
    lag: int
    lost: int
    oldest_ms: int | None
    in_per_s: float | None
    out_per_s: float | None
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFigures:
    """One group in one topic. `complete` is how much of the window there is, from 0 to 1: with less than 1 every state is OK."""

    group: str
    topic: str
    retention_ms: int | None
    complete: float
    partitions: tuple[PartitionFigures, ...]

    @property
    def state(self) -> State:
        """The state of its worst partition."""
        return worst([each.state for each in self.partitions])

    @property
    def lag(self) -> int:
        """How many records stand before the group."""
        return sum(each.lag for each in self.partitions)

    @property
    def lost(self) -> int:
        """How many records were deleted before the group handled them."""
        return sum(each.lost for each in self.partitions)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest unprocessed record was written; None: nothing is unprocessed, or it is not known."""
        return min((each.oldest_ms for each in self.partitions if each.oldest_ms is not None), default=None)

    @property
    def in_per_s(self) -> float | None:
        """Records a second that come."""
        return _sum([each.in_per_s for each in self.partitions])

    @property
    def out_per_s(self) -> float | None:
        """Records a second that are done."""
        return _sum([each.out_per_s for each in self.partitions])


def partition_figures(number: int, window: Sequence[Observation], *, size: int) -> PartitionFigures:
    """Return the figures of a partition at its last observation; a window of `size` observations is enough for a state."""
    first, last = window[0], window[-1]
    span_s = last.at_s - first.at_s
    return PartitionFigures(
        partition=number,
        state=judge(window, size=size),
        committed=last.committed,
        begin=last.begin,
        end=last.end,
        lag=last.lag,
        lost=last.lost,
        oldest_ms=last.oldest_ms,
        in_per_s=max(0, last.end - first.end) / span_s if span_s > 0 else None,
        out_per_s=max(0, last.position - first.position) / span_s if span_s > 0 else None,
        owner=last.owner,
    )


def lag_seconds(lag: int, oldest_ms: int | None, *, now_ms: int) -> float | None:
    """Return how long the oldest unprocessed record has waited; 0 if there is none, None if its time is not known."""
    if not lag:
        return 0.0
    return None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000


def drain_seconds(lag: int, in_per_s: float | None, out_per_s: float | None) -> float | None:
    """Return after how long nothing will be unprocessed at these rates; None: never, or not known."""
    if not lag:
        return 0.0
    if in_per_s is None or out_per_s is None or out_per_s <= in_per_s:
        return None
    return lag / (out_per_s - in_per_s)


def retention_left_seconds(oldest_ms: int | None, retention_ms: int | None, *, now_ms: int) -> float | None:
    """Return after how long retention may delete the oldest unprocessed record; None: there is none, or nothing is deleted by age."""
    if oldest_ms is None or retention_ms is None:
        return None
    return (oldest_ms + retention_ms - now_ms) / 1000


def skew(rates: Sequence[float | None]) -> float | None:
    """Return the share of the busiest partition in what comes, times their number: 1 is even, None where nothing comes."""
    known = [rate for rate in rates if rate is not None]
    total = sum(known)
    return max(known) * len(known) / total if total else None


def as_rows(figures: Sequence[TopicFigures], *, now_ms: int, partitions: bool) -> list[dict[str, Any]]:
    """Return the figures for JSON, one row for each group and topic; seconds are counted from `now_ms`."""
    return [_row(each, now_ms=now_ms) | (_partition_rows(each, now_ms=now_ms) if partitions else {}) for each in figures]


def _row(figures: TopicFigures, *, now_ms: int) -> dict[str, Any]:
    return {
        "group": figures.group,
        "topic": figures.topic,
        "state": str(figures.state),
        "complete": round(figures.complete, 2),
        "lag_messages": figures.lag,
        "lag_seconds": _rounded(lag_seconds(figures.lag, figures.oldest_ms, now_ms=now_ms)),
        "oldest_unprocessed_at": figures.oldest_ms,
        "in_per_second": _rounded(figures.in_per_s),
        "out_per_second": _rounded(figures.out_per_s),
        "drain_seconds": _rounded(drain_seconds(figures.lag, figures.in_per_s, figures.out_per_s)),
        "retention_left_seconds": _rounded(retention_left_seconds(figures.oldest_ms, figures.retention_ms, now_ms=now_ms)),
        "lost_messages": figures.lost,
        "skew": _rounded(skew([each.in_per_s for each in figures.partitions])),
        "owned": sum(bool(each.owner) for each in figures.partitions),
    }


def _partition_rows(figures: TopicFigures, *, now_ms: int) -> dict[str, Any]:
    return {
        "partitions": [
            {
                "partition": each.partition,
                "state": str(each.state),
                "committed": each.committed,
                "begin": each.begin,
                "end": each.end,
                "lag_messages": each.lag,
                "lag_seconds": _rounded(lag_seconds(each.lag, each.oldest_ms, now_ms=now_ms)),
                "oldest_unprocessed_at": each.oldest_ms,
                "in_per_second": _rounded(each.in_per_s),
                "out_per_second": _rounded(each.out_per_s),
                "lost_messages": each.lost,
                "owner": each.owner,
            }
            for each in figures.partitions
        ]
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each group: its worst state, its messages and its most seconds over its topics."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return [
        {
            "group": group,
            "state": str(worst([State(row["state"]) for row in of_group])),
            "lag_messages": sum(row["lag_messages"] for row in of_group),
            "lag_seconds": max((row["lag_seconds"] for row in of_group if row["lag_seconds"] is not None), default=None),
        }
        for group, of_group in groups.items()
    ]


def _sum(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
