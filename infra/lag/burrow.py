"""How a group is doing in one partition: Burrow's rules over a window of observations, without thresholds to tune.

Burrow reads every commit. Here the broker is asked every few seconds, and our consumers commit only what has changed. So what stands for a
commit is an observation in which the offset had moved, or in which a living member had the partition: a member that lives and does not get
on is stalled, and where nobody has committed or lived for longer than the window reaches, the group has stopped (decision 0013).
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from infra.lag.observation import Observation


class State(StrEnum):
    """How a group is doing; worse ones come later."""

    OK = "OK"
    WARN = "WARN"  # it gets on, and its lag never becomes less
    STOP = "STOP"  # nobody commits any more
    STALL = "STALL"  # a member lives and its offset stands still before unprocessed records
    REWIND = "REWIND"  # the offset went back and has not come forward again


UNWELL = frozenset({State.STALL, State.STOP, State.REWIND})
"""The states in which somebody should look."""

_ORDER = list(State)


def worst(states: Sequence[State]) -> State:
    """Return the worst of the states; OK without any."""
    return max(states, key=_ORDER.index, default=State.OK)


def judge(window: Sequence[Observation], *, size: int) -> State:
    """Return the state at the last observation. Fewer than `size` observations are not enough to say anything but OK."""
    if not window or not window[-1].lag or len(window) < size:
        return State.OK
    commits = _commits(window)
    if _stopped(window, commits):
        return State.STOP
    if _rewound(window):
        return State.REWIND
    if not commits or any(not seen.lag for seen in commits):
        return State.OK
    if all(after.committed == before.committed for before, after in pairwise(commits)):
        return State.STALL
    if all(after.lag >= before.lag for before, after in pairwise(commits)):
        return State.WARN
    return State.OK


def _commits(window: Sequence[Observation]) -> list[Observation]:
    """Return the observations that stand for a commit."""
    return [
        seen for before, seen in zip((None, *window), window, strict=False) if seen.owner or (before and seen.committed != before.committed)
    ]


def _stopped(window: Sequence[Observation], commits: Sequence[Observation]) -> bool:
    """Tell whether the last commit is longer ago than the commits reach back, and nothing was left to do at no moment since then."""
    now, last = window[-1].at_s, commits[-1] if commits else window[0]
    silent = not commits or now - last.at_s > last.at_s - commits[0].at_s
    return silent and all(seen.lag for seen in window if seen.at_s >= last.at_s)


def _rewound(window: Sequence[Observation]) -> bool:
    offsets = [seen.committed for seen in window if seen.committed is not None]
    back = any(after < before for before, after in pairwise(offsets))
    return back and offsets[-1] < max(offsets)
