"""Time from one place, so that tests move it and clock steps can be tried.

Wall time stamps events; monotonic time measures waits, because a wall clock may step.
"""

import time
from datetime import UTC, datetime
from typing import Protocol

from infra.fault_points import clock_offset_ms


class Clock(Protocol):
    """What a part that needs time is given."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back; only differences mean anything."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000 + clock_offset_ms()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()


def iso(time_ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 UTC, such as 2026-11-21T07:00:00.123Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
