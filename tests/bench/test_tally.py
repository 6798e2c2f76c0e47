"""Replies that come twice or out of order are counted, each once."""

import msgspec

from infra.bench.tally import Tally, tallied
from infra.simulator.books import Arrival
from infra.simulator.platform import SimulatedPlatform


def tally_of(*replies: tuple[str, int]) -> tuple[int, int]:
    """Return how many of these were doubled and how many out of order."""
    tally = Tally()
    for conversation, number in replies:
        tally.count(conversation, number)
    return tally.doubled, tally.disordered


def test_once_and_in_order_is_nothing() -> None:
    """What one conversation gets says nothing of another, and a reply that is missing is neither."""
    assert tally_of(("a", 1), ("b", 0), ("a", 3), ("b", 2)) == (0, 0)


def test_a_second_reply_to_the_same_message_is_doubled_only() -> None:
    assert tally_of(("a", 1), ("a", 2), ("a", 1), ("a", 1)) == (2, 0)


def test_a_reply_behind_that_to_a_later_message_is_out_of_order() -> None:
    assert tally_of(("a", 3), ("a", 1), ("a", 2), ("a", 4)) == (0, 2)


def test_only_what_the_platform_accepts_while_it_counts_is_counted() -> None:
    platform = SimulatedPlatform()

    def arrives(number: int, outcome: str = "accepted") -> None:
        body = msgspec.Raw(b'{"text":{"body":"echo: %d hello"}}' % number)
        platform.books.add(Arrival(sequence=1, at=0.0, account="1", outcome=outcome, answered=200, to="15550000000", body=body))

    arrives(1)
    with tallied(platform) as tally:
        arrives(2)
        arrives(2, "throttle")
        assert tally.doubled == 0
        arrives(2)
        arrives(1)
    arrives(2)
    assert (tally.doubled, tally.disordered) == (1, 1)
