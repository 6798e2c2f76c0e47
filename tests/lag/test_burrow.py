"""infra.lag.burrow: each state from a window that provokes it, and what must not look like one."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.lag.burrow import State, judge, worst
from infra.lag.observation import Observation

SIZE = 6
EVERY_S = 5.0


def window(committed: Sequence[int | None], ends: Sequence[int], *, alive: Sequence[bool] | bool = True) -> list[Observation]:
    """Return observations EVERY_S apart."""
    owned = [alive] * len(ends) if isinstance(alive, bool) else alive
    return [
        Observation(at_s=100 + EVERY_S * number, committed=offset, begin=0, end=end, owner="worker" if owner else "")
        for number, (offset, end, owner) in enumerate(zip(committed, ends, owned, strict=True))
    ]


STEADY = [10, 20, 30, 40, 50, 60]
LIVED_ONCE = [True, False, False, False, False, False]

CASES = {
    "nothing is unprocessed": (State.OK, window(STEADY, STEADY)),
    "the lag becomes less": (State.OK, window(STEADY, [50, 61, 70, 75, 80, 90])),
    "slower than what comes": (State.WARN, window(STEADY, [11, 22, 33, 44, 55, 66])),
    "slower, and gone once": (State.OK, window(STEADY, [11, 22, 30, 44, 55, 66])),
    "lives and does not get on": (State.STALL, window([10] * 6, [11, 11, 12, 12, 12, 13])),
    "never commits, and lives": (State.STALL, window([None] * 6, [1] * 6)),
    "stalled since shortly": (State.OK, window([10] * 6, [10, 10, 11, 11, 11, 12])),
    "nobody is there": (State.STOP, window([10] * 6, [11, 12, 13, 14, 15, 16], alive=False)),
    "nobody has ever been there": (State.STOP, window([None] * 6, [1] * 6, alive=False)),
    "died, and messages come": (State.STOP, window([10, 10, 10, 10, 10, 10], [11, 12, 13, 14, 15, 16], alive=LIVED_ONCE)),
    "died after a while": (State.STOP, window([10, 20, 20, 20, 20, 20], [11, 21, 23, 24, 25, 26], alive=[True] * 2 + [False] * 4)),
    "died a moment ago": (State.OK, window([*STEADY[:5], 50], [50, 61, 70, 75, 80, 90], alive=[True] * 5 + [False])),
    "died with nothing to do, messages since shortly": (State.OK, window([10] * 6, [10, 10, 10, 11, 12, 13], alive=LIVED_ONCE)),
    "nobody is there, and nothing to do": (State.OK, window([10] * 6, [10] * 6, alive=False)),
    "went back": (State.REWIND, window([50, 60, 20, 25, 30, 35], [60, 61, 62, 63, 64, 65])),
    "went back and came forward": (State.OK, window([50, 60, 20, 40, 60, 61], [60, 61, 62, 63, 64, 65])),
    "went back and has gone quiet": (State.STOP, window([50, 60, 20, 20, 20, 20], [61, 62, 63, 64, 65, 66], alive=[True] + [False] * 5)),
    "too few to tell": (State.OK, window([10] * 5, [11] * 5)),
    "none at all": (State.OK, []),
}


@pytest.mark.parametrize("name", CASES)
def test_each_state_is_named(name: str) -> None:
    """Each window has the state that its name says."""
    expected, seen = CASES[name]
    assert judge(seen, size=SIZE) is expected


def test_the_worst_state_is_the_group_s() -> None:
    """Worse ones come later in the order of Burrow; nothing is well."""
    assert worst([State.OK, State.STALL, State.WARN]) is State.STALL
    assert worst(list(State)) is State.REWIND
    assert worst([]) is State.OK


offsets = st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=SIZE, max_size=SIZE)


@given(
    offsets,
    st.lists(st.integers(0, 5), min_size=SIZE, max_size=SIZE),
    st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
)
def test_no_window_is_without_a_state(committed: list[int | None], more: list[int], alive: list[bool]) -> None:
    """Whatever was seen has a state, it is OK where nothing is unprocessed, and nobody who lives now has stopped."""
    ends = [sum(more[: number + 1]) for number in range(SIZE)]
    seen = window(committed, ends, alive=alive)
    state = judge(seen, size=SIZE)
    if not seen[-1].lag:
        assert state is State.OK
    if alive[-1]:
        assert state is not State.STOP
