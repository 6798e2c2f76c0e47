"""What changes on an open page: its items, each with a version, sent again when they are another one."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

import msgspec

LIFE_S = 600.0
"""A stream ends after so long; the browser asks for another one, and its session is checked again."""

_AGAIN_S = (0.05, 0.15, 0.35, 0.75, 1.5, 3.0, 6.0, 12.0)
"""When to look after a record was written: history has it a moment later, and longer when it is behind."""
_LEAST_S = 0.2
_ANYWAY_S = 10.0
_VERSION_LENGTH = 16
_AT_ONCE = 2
_REST = 5.0
_REST_S_MAX = 2.0


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
    """Lets open pages read in turns, and lets a while go by after each: however many they are, they take a third of what there is."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def take(self, read: Callable[[], Awaitable[list[Item]]]) -> list[Item]:
        """Return what `read` returns, when it is its turn."""
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            return await read()
        finally:
            loop.call_later(min(_REST_S_MAX, _REST * (loop.time() - begun)), self._room.release)


class Schedule:
    """When to look again: soon after each thing that was told, less and less often after that, and now and then anyway."""

    def __init__(self, now: float) -> None:
        self._looked = now
        self._due: list[float] = [now + delay for delay in _AGAIN_S[4:]]

    def told(self, now: float) -> None:
        """Note that something was written."""
        self._due = [now + delay for delay in _AGAIN_S]

    def next_at(self) -> float:
        """Return when to look next, as monotonic seconds."""
        return max(self._looked + _LEAST_S, min(self._due[0] if self._due else self._looked + _ANYWAY_S, self._looked + _ANYWAY_S))

    def looked(self, now: float) -> None:
        """Note that it was looked now."""
        self._looked = now
        self._due = [due for due in self._due if due > now]


async def changes(
    read: Callable[[], Awaitable[list[Item]]], written: asyncio.Event, is_over: Callable[[], bool], now: Callable[[], float]
) -> AsyncGenerator[Change, None]:
    """Yield what changed, the whole page first; `written` is set by whoever learns of a record. Ends when `is_over` says so."""
    known: dict[str, str] = {}
    begun = now()
    schedule = Schedule(begun)
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
