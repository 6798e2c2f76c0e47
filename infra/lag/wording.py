"""Figures of lag in words, for tables that people read. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_FINE_S = 60
_COARSE = 100

TITLES = {
    "group": "group",
    "topic": "topic",
    "state": "state",
    "lag": "lag",
    "oldest": "oldest",
    "in": "in/s",
    "out": "out/s",
    "drain": "drained in",
    "left": "deleted in",
}
PARTITION_TITLES = {
    "group": "group",
    "topic": "topic",
    "partition": "partition",
    "state": "state",
    "committed": "committed",
    "end": "end",
    "lag": "lag",
    "oldest": "oldest",
    "in": "in/s",
    "out": "out/s",
    "owner": "owner",
}


def duration(seconds: float | None, *, unknown: str = "?") -> str:
    """Return a time in at most two units: `8.4 s`, `3 min 10 s`, `13 d 23 h`."""
    if seconds is None:
        return unknown
    if round(abs(seconds), 1) < _FINE_S:
        return f"{seconds:.1f} s"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    rest, parts = round(seconds), []
    for name, size in _UNITS:
        count, rest = divmod(rest, size)
        parts.append((count, name))
    first = next(number for number, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count)


def rate(per_second: float | None) -> str:
    """Return a rate with as many digits as say something."""
    if per_second is None:
        return "?"
    return f"{per_second:.0f}" if per_second >= _COARSE else f"{per_second:.1f}"


def topic_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of TITLES for rows of `figures.as_rows`."""
    return [
        {
            "group": row["group"],
            "topic": row["topic"],
            "state": _state(row),
            "lag": _lag(row),
            "oldest": duration(row["lag_seconds"]) if row["lag_messages"] else "-",
            "in": rate(row["in_per_second"]),
            "out": rate(row["out_per_second"]),
            "drain": duration(row["drain_seconds"], unknown=_not_drained(row)) if row["lag_messages"] else "-",
            "left": duration(row["retention_left_seconds"]) if row["lag_messages"] else "-",
        }
        for row in rows
    ]


def partition_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of PARTITION_TITLES for rows of `figures.as_rows` that have their partitions."""
    return [
        {
            "group": row["group"],
            "topic": row["topic"],
            "partition": each["partition"],
            "state": each["state"],
            "committed": "-" if each["committed"] is None else each["committed"],
            "end": each["end"],
            "lag": _lag(each),
            "oldest": duration(each["lag_seconds"]) if each["lag_messages"] else "-",
            "in": rate(each["in_per_second"]),
            "out": rate(each["out_per_second"]),
            "owner": each["owner"] or "-",
        }
        for row in rows
        for each in row["partitions"]
    ]


def _state(row: Mapping[str, Any]) -> str:
    # Before a window is full a state says nothing but that nothing is known to be wrong.
    return row["state"] if row["complete"] == 1 else f"{row['state']} ({row['complete']:.0%} seen)"


def _lag(row: Mapping[str, Any]) -> str:
    return f"{row['lag_messages']} ({row['lost_messages']} lost)" if row["lost_messages"] else str(row["lag_messages"])


def _not_drained(row: Mapping[str, Any]) -> str:
    return "?" if row["in_per_second"] is None else "never"
