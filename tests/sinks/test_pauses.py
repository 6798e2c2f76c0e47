"""sinks.pauses: who waits when the platform says so, and for how long."""

import random

import pytest

from schemas.channels.base import Pause
from sinks.pauses import Pauses

PAIR, NUMBER, APP = (Pause.PAIR, "wa:1:2"), (Pause.NUMBER, "1"), (Pause.APP, "whatsapp")


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def pauses(clock: Hand) -> Pauses:
    return Pauses(clock, random.Random(1))


def test_a_pair_waits_four_times_longer_each_time(pauses: Pauses, clock: Hand) -> None:
    """131056 met again after its pause pauses the pair for 1, 4, 16, 64 seconds."""
    lengths = []
    for _ in range(4):
        lengths.append(pauses.note(PAIR))
        clock.seconds += 1000
    assert lengths == [1.0, 4.0, 16.0, 64.0]


def test_others_go_on(pauses: Pauses) -> None:
    """A paused pair stops neither its number nor another pair; a paused number stops its pairs."""
    pauses.note(PAIR)
    assert pauses.remaining_s([PAIR, NUMBER, APP]) > 0
    assert pauses.remaining_s([(Pause.PAIR, "wa:1:3"), NUMBER, APP]) == 0.0
    pauses.note(NUMBER)
    assert pauses.remaining_s([(Pause.PAIR, "wa:1:3"), NUMBER, APP]) > 0


def test_answers_of_one_moment_count_once(pauses: Pauses) -> None:
    """A hundred sends that were under way when the number was throttled pause it once, not a hundred times longer."""
    assert {pauses.note(NUMBER) <= 1.2 for _ in range(100)} == {True}


def test_what_the_platform_asks_for_is_kept(pauses: Pauses, clock: Hand) -> None:
    """A Retry-After longer than our own pause is waited for, also when it comes while we wait."""
    pauses.note(NUMBER)
    pauses.note(NUMBER, at_least_s=30)
    clock.seconds += 29
    assert pauses.remaining_s([NUMBER]) > 0
    clock.seconds += 8
    assert pauses.remaining_s([NUMBER]) == 0.0


def test_success_forgets(pauses: Pauses, clock: Hand) -> None:
    """After a send that worked, the next throttling starts with the shortest pause again."""
    pauses.note(PAIR)
    clock.seconds += 10
    pauses.succeeded([PAIR])
    assert pauses.note(PAIR) == 1.0


def test_a_pause_is_bounded(pauses: Pauses, clock: Hand) -> None:
    """No pause is longer than five minutes, however often it is met."""
    for _ in range(20):
        length = pauses.note(PAIR, at_least_s=10_000)
        clock.seconds += 100_000
    assert length == 300.0
