"""The newest so many entries: what a process remembers for as long as it has room."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Newest(Generic[K, V]):
    """Entries by key, at most `limit`: the one that came first is forgotten first.

    A dict and a queue of its keys take half of what an OrderedDict does. A dict alone would look for its oldest entry past all that it
    has forgotten, tens of thousands of them.
    """

    __slots__ = ("_limit", "_order", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[K, V] = {}
        self._order: deque[K] = deque()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of a key; None if it is not remembered."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> V | None:
        """Remember a value; return that of the oldest entry if it had to be forgotten for it."""
        if key not in self._values:
            self._order.append(key)
        self._values[key] = value
        return self._values.pop(self._order.popleft()) if len(self._order) > self._limit else None
