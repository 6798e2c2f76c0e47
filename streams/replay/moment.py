"""Which record is being handled, and what time it was then.

Thousands of conversations are replayed side by side, each in a task of its own, and each at another time of the past: so the time is the
task's and not the process's.
"""

from contextvars import ContextVar

import msgspec


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The record under way: when it was decided about (milliseconds since 1970), and where in [raw] ingress had written it.

    `is_compared`: it lies in the stretch that is compared, not in the one before it that only builds state.
    """

    now_ms: int
    partition: int
    offset: int
    is_compared: bool


_current: ContextVar[Moment] = ContextVar("moment")


def enter(moment: Moment) -> None:
    """Make this the moment of the running task."""
    _current.set(moment)


def moment() -> Moment:
    """Return the moment of the running task; LookupError outside of the handling of a record."""
    return _current.get()


class RecordedClock:
    """Tells the time at which the record under way was decided about."""

    def now_ms(self) -> int:
        """Wall time of then, milliseconds since 1970 UTC."""
        return moment().now_ms

    def monotonic(self) -> float:
        """Seconds of then; nothing is measured with them."""
        return moment().now_ms / 1000
