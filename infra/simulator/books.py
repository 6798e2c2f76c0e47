"""What arrived at the simulated platform, in order: the witness that a test or the demo asks. Bounded."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import msgspec

KEPT_DEFAULT = 50_000
_IDS_KEPT = 10  # of one callback data


class Arrival(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to /messages. `at` is milliseconds since 1970 with fractions.

    `outcome` is accepted, or why it was not; `answered` what the client was told: an HTTP status, 0 where the connection was reset.
    """

    sequence: int
    at: float
    account: str
    outcome: str
    answered: int
    kind: str = "send"
    to: str = ""
    callback: str = ""
    platform_id: str = ""
    body: msgspec.Raw = msgspec.Raw(b"null")


class Books:
    """The last arrivals, and counts over all of them."""

    def __init__(self, *, kept: int = KEPT_DEFAULT) -> None:
        self._kept = kept
        self.watchers: list[Callable[[Arrival], None]] = []
        self._changed = asyncio.Event()
        self._sequence = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything; sequence numbers go on."""
        self._arrivals: deque[Arrival] = deque(maxlen=self._kept)
        self._ids: OrderedDict[str, list[str]] = OrderedDict()
        self.counts: dict[str, int] = {"requests": 0, "accepted": 0, "duplicates": 0}

    def next_sequence(self) -> int:
        """Return the number of the next arrival, from 1."""
        self._sequence += 1
        return self._sequence

    def add(self, arrival: Arrival) -> None:
        """Write an arrival down. A second accepted send with the same callback data counts as a duplicate."""
        self._arrivals.append(arrival)
        self.counts["requests"] += 1
        self.counts[arrival.outcome] = self.counts.get(arrival.outcome, 0) + 1
        if arrival.outcome == "accepted" and arrival.callback:
            self._count_duplicate(arrival)
        for watcher in self.watchers:
            watcher(arrival)
        self._changed.set()

    def _count_duplicate(self, arrival: Arrival) -> None:
        ids = self._ids.setdefault(arrival.callback, [])
        if len(ids) < _IDS_KEPT:
            ids.append(arrival.platform_id)
        if len(ids) > 1:
            self.counts["duplicates"] += 1
        if len(self._ids) > self._kept:
            self._ids.popitem(last=False)

    def arrivals(self, *, after: int = 0) -> Iterator[Arrival]:
        """Yield the kept arrivals with a higher sequence number, in order."""
        return (arrival for arrival in self._arrivals if arrival.sequence > after)

    def accepted(self) -> list[Arrival]:
        """Return the kept sends that were accepted, in order."""
        return [arrival for arrival in self._arrivals if arrival.outcome == "accepted"]

    def duplicates(self) -> dict[str, list[str]]:
        """Return the platform's ids of each callback data that was accepted more than once."""
        return {callback: list(ids) for callback, ids in self._ids.items() if len(ids) > 1}

    async def wait_for(self, outcome: str, count: int, *, timeout_s: float = 10.0) -> None:
        """Return once so many arrivals had this outcome; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            while self.counts.get(outcome, 0) < count:
                self._changed.clear()
                await self._changed.wait()
