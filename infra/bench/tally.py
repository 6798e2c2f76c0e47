"""Counts replies that are more than one for a message, or that come behind the reply to a later one."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.bench.users import number_of
from infra.simulator.books import Arrival
from infra.simulator.platform import SimulatedPlatform


class Tally:
    """Counts replies to numbered messages, whose numbers grow in each conversation."""

    def __init__(self) -> None:
        self.doubled = self.disordered = 0
        self._seen: set[int] = set()
        self._newest: dict[str, int] = {}

    def count(self, conversation: str, number: int) -> None:
        """Count one reply."""
        if number in self._seen:
            self.doubled += 1
            return
        self._seen.add(number)
        newest = self._newest.get(conversation, -1)
        if number < newest:
            self.disordered += 1
        self._newest[conversation] = max(number, newest)


@contextmanager
def tallied(platform: SimulatedPlatform) -> Iterator[Tally]:
    """Yield a tally of the replies that the platform accepts while the context is open."""
    tally = Tally()

    def saw(arrival: Arrival) -> None:
        number = number_of(arrival.body) if arrival.outcome == "accepted" else None
        if number is not None:
            tally.count(arrival.to, number)

    platform.books.watchers.append(saw)
    try:
        yield tally
    finally:
        platform.books.watchers.remove(saw)
