"""What changes on an open page: its items, each with a version, sent again when they are another one."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

LIFE_S = 600.0
"""A stream ends after so long; the browser asks for another one, and its session is checked again."""

_AGAIN_S = (0.05, 0.2, 0.4, 0.6, 0.8, 1.1, 1.7, 3.0, 6.0, 12.0)
"""When to look after a record was written: history gathers for a quarter of a second what it writes, and has it later when it is behind."""
_AFTER_ITSELF_S = 1.5
_LEAST_S = 0.2
# Where something is written all the time each look finds much: fewer of them show it as soon as people can read it. What comes right
# after one waits for the next one, for its end, and for history before it: together less than a second.
_LEAST_BUSY_S = 0.4
_MANY = 10
_VERSION_LENGTH = 16
_AT_ONCE = 2
_PRICE = 3.0
_REST_S_MAX = 2.0
_CREDIT_S = 1.0

EVERY_S = 10.0
"""After so long it is looked anyway."""


Said = Mapping[str, Any]
"""What is told to a page that is open: `html` of elements that are new or other, `ids` of all there are (None: those there stay)."""


class Item(NamedTuple):
    """One element of a page: its id in the document, what tells its states apart, and how it is made."""

    id: str
    version: str
    html: Callable[[], str]


class Change(NamedTuple):
    """What to put into a page: HTML of the elements that are new or other, and the ids of all there are."""

    html: str
    ids: list[str]


def version_of(shown: object) -> str:
    """Return a text that is the same for what looks the same."""
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:_VERSION_LENGTH]


class Turns:
    """Lets open pages read in turns: however many they are, they take a third of the time there is.

    What was read is paid for with three times the time it took, but later: a few pages may look again at once, many have to wait.
    """

    def __init__(self, *, credit_s: float = _CREDIT_S) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._credit_s = credit_s
        self._paid_at = float("-inf")

    async def take(self, read: Callable[[], Awaitable[list[Item]]]) -> list[Item]:
        """Return what `read` returns, when it is its turn."""
        loop = asyncio.get_running_loop()
        async with self._room:
            await asyncio.sleep(max(0.0, self._paid_at - self._credit_s - loop.time()))
            begun = loop.time()
            try:
                return await read()
            finally:
                took = loop.time() - begun
                self._paid_at = max(self._paid_at, begun) + min(_PRICE * took, took + _REST_S_MAX)


class Schedule:
    """When to look again: soon after each thing that was told, less and less often after that, and now and then anyway."""

    def __init__(self, now: float, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._looked = now
        self._told: deque[float] = deque([float("-inf")] * _MANY, maxlen=_MANY)
        self._due: list[float] = [now + delay for delay in _AGAIN_S if delay > _AFTER_ITSELF_S]

    def told(self, now: float) -> None:
        """Note that something was written."""
        self._told.append(now)
        # A look that is due stays due: where something is written all the time, it would else be put off for ever.
        first = min([now + _AGAIN_S[0], *self._due[:1]])
        self._due = [first, *(now + delay for delay in _AGAIN_S[1:])]

    def next_at(self) -> float:
        """Return when to look next, as monotonic seconds."""
        anyway = self._looked + self._every_s
        is_busy = self._told[-1] - self._told[0] < 1.0
        return max(self._looked + (_LEAST_BUSY_S if is_busy else _LEAST_S), min(self._due[0], anyway) if self._due else anyway)

    def looked(self, now: float) -> None:
        """Note that it was looked now."""
        self._looked = now
        self._due = [due for due in self._due if due > now]


async def changes(
    read: Callable[[], Awaitable[list[Item]]],
    written: asyncio.Event,
    is_over: Callable[[], bool],
    now: Callable[[], float],
    *,
    every_s: float = EVERY_S,
) -> AsyncGenerator[Change, None]:
    """Yield what changed, the whole page first; `written` is set by whoever learns of a record. Ends when `is_over` says so."""
    known: dict[str, str] = {}
    begun = now()
    schedule = Schedule(begun, every_s=every_s)
    is_first = True
    while not is_over() and now() - begun < LIFE_S:
        items = await read()
        schedule.looked(now())
        ids = [item.id for item in items]
        other = [item for item in items if known.get(item.id) != item.version]
        if other or is_first or set(ids) != set(known):
            yield Change("".join(item.html() for item in other), ids)
        known = {item.id: item.version for item in items}
        is_first = False
        while (left := schedule.next_at() - now()) > 0 and not is_over():
            try:
                # In pieces, so that the end of the process is noticed.
                async with asyncio.timeout(min(left, 0.5)):
                    await written.wait()
            except TimeoutError:
                continue
            written.clear()
            schedule.told(now())
