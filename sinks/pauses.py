"""Who must wait because the platform said so: one conversation, one number, or the whole app; never a partition."""

import asyncio
import random
from collections.abc import Iterable

from infra.clock import Clock
from schemas.channels.base import Pause

_FIRST_S = {Pause.PAIR: 1.0, Pause.NUMBER: 1.0, Pause.APP: 2.0}
_FACTOR = {Pause.PAIR: 4.0, Pause.NUMBER: 2.0, Pause.APP: 2.0}
_LONGEST_S = 300.0
_KEPT_MAX = 100_000

Key = tuple[Pause, str]


class Pauses:
    """Remembers until when each pair, number or app waits; a pause grows while it is met again and is forgotten after a success."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._until: dict[Key, float] = {}
        self._length_s: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._length_s)

    def note(self, key: Key, *, at_least_s: float = 0.0) -> float:
        """Begin a pause, longer than the last one of this key and no shorter than asked for; return its length in seconds.

        While a pause is running, further answers of sends that were already under way do not lengthen it.
        """
        now = self._clock.monotonic()
        if self._until.get(key, 0.0) > now and at_least_s <= self._until[key] - now:
            return self._until[key] - now
        kind = key[0]
        length = min(_LONGEST_S, max(at_least_s, self._length_s.get(key, 0.0) * _FACTOR[kind] or _FIRST_S[kind]))
        if len(self._length_s) >= _KEPT_MAX:
            self._forget_past(now)
        self._length_s[key] = length
        self._until[key] = now + length * (1 + 0.2 * self._chance.random())
        return length

    def succeeded(self, keys: Iterable[Key]) -> None:
        """Forget the pauses of what has just worked."""
        if not self._until:
            return
        for key in keys:
            if self._until.get(key, 0.0) <= self._clock.monotonic():
                self._until.pop(key, None)
                self._length_s.pop(key, None)

    def remaining_s(self, keys: Iterable[Key]) -> float:
        """Return how long the longest running pause of these keys still is; 0.0 if none runs."""
        if not self._until:
            return 0.0
        now = self._clock.monotonic()
        return max(0.0, *(self._until.get(key, now) - now for key in keys), 0.0)

    async def wait(self, keys: Iterable[Key]) -> None:
        """Wait until none of the keys is paused."""
        wanted = tuple(keys)
        while (remaining := self.remaining_s(wanted)) > 0:  # noqa: ASYNC110  # time is what is awaited; a pause may have grown meanwhile
            await asyncio.sleep(remaining)

    def _forget_past(self, now: float) -> None:
        for key in [key for key, until in self._until.items() if until <= now]:
            self._until.pop(key, None)
            self._length_s.pop(key, None)
