"""Which keys make the most of a partition's traffic, counted in bounded memory. Pure.

Counts are by Misra and Gries, pruned in batches: at most twice `capacity` keys are held, every key that makes more than a share of
1 / `capacity` of all records is among them, and what a count may be short of is known.
"""

from dataclasses import dataclass
from heapq import nlargest

CAPACITY = 1_000


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key with at least `records` records and `bytes` of them; `missed` is how many records more there may be."""

    key: bytes
    records: int
    bytes: int
    missed: int


class HotKeys:
    """Counts the keys of one partition; `records` and `bytes` are those of all keys, exactly."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._counts: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}
        self._missed = 0
        self.records = 0
        self.bytes = 0

    def add(self, key: bytes, size: int) -> None:
        """Count a record of `size` bytes."""
        self.records += 1
        self.bytes += size
        self._counts[key] = self._counts.get(key, 0) + 1
        self._sizes[key] = self._sizes.get(key, 0) + size
        if len(self._counts) >= 2 * self._capacity:
            self._prune()

    def top(self, count: int) -> list[HotKey]:
        """Return the keys with the most records, those first."""
        found = nlargest(count, self._counts.items(), key=lambda entry: (entry[1], entry[0]))
        return [HotKey(key, records, self._sizes[key], self._missed) for key, records in found]

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._counts)

    def _prune(self) -> None:
        """Take from every count what the first one has that need not be kept."""
        taken = nlargest(self._capacity + 1, self._counts.values())[-1]
        self._missed += taken
        self._counts = {key: count - taken for key, count in self._counts.items() if count > taken}
        self._sizes = {key: self._sizes[key] for key in self._counts}
