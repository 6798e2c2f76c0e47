"""Times as people write them on a command line."""

import re
from datetime import UTC, datetime

from infra.errors import UsageError

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_BACK = re.compile(r"-(\d{1,9})([smhdw])")


def read_time(text: str, *, now_ms: int) -> int:
    """Return milliseconds since 1970 for `now`, a time back such as -90m, -2h or -8d, or ISO 8601 (UTC where it names no zone).

    UsageError for anything else.
    """
    if text == "now":
        return now_ms
    if back := _BACK.fullmatch(text):
        return max(0, now_ms - int(back[1]) * _UNITS_MS[back[2]])
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, round(1000 * moment.timestamp()))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no time: write now, -2h (also s, m, d, w), 2026-11-01 or 2026-11-01T14:30:00+01:00.") from None


def shown_time(time_ms: int) -> str:
    """Return a time in UTC for people, to the second."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(time_ms)
