"""Pages that are kept open: what they were told, and when each of the messages that were posted was on them."""

import asyncio
import re
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import accumulate

import aiohttp

from infra.bench.browser import Browser, Told
from infra.errors import OttlaError

SHOWN_WITHIN_S = 15.0
"""What an open page has not shown by then is waited for no longer."""

Shown = Callable[[Sequence[Told], Mapping[int, float]], dict[int, float]]
"""Of what an open page was told, and of what was posted when: when each of these was there."""

# What users wrote begins with its number, and the model says it again.
_NUMBER = re.compile(r'(?:<bdi>|dir="auto">)(?:echo: )?(\d+) ')


class OpenPage:
    """A page that is open: what it was told so far."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._more = asyncio.Event()

    async def read(self, browser: Browser, path: str) -> None:
        """Take what it is told; OttlaError when that ends."""
        async with aclosing(browser.follow(path)) as told:
            async for each in told:
                self.told.append(each)
                self._more.set()
        raise OttlaError("An open page was not told anything any more.")

    async def wait_for(self, is_there: Callable[[Sequence[Told]], bool]) -> None:
        """Wait until what it was told is enough; TimeoutError after a while."""
        async with asyncio.timeout(SHOWN_WITHIN_S):
            while not is_there(self.told):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def opened(browser: Browser, path: str) -> AsyncIterator[OpenPage]:
    """Keep a page open; it has been told all of it when the context begins."""
    page = OpenPage()
    reading = asyncio.create_task(page.read(browser, path))
    try:
        with suppress(TimeoutError):
            await page.wait_for(bool)
        go_on(reading)
        yield page
        go_on(reading)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def go_on(task: "asyncio.Task[None]") -> None:
    """Raise why a task has ended that should not have; OttlaError."""
    if task.done():
        try:
            task.result()
        except (aiohttp.ClientError, OSError) as error:
            raise OttlaError(f"The ingress or a role does not answer any more: {error!r}.") from error


def numbers_in(html: str) -> list[int]:
    """Return the numbers of the messages that a piece of a page shows, or answers to them."""
    return [int(number) for number in _NUMBER.findall(html)]


def shown_at(told: Sequence[Told], posted: Mapping[int, float]) -> dict[int, float]:
    """Return when each of the posted messages was first shown; those that were not are left out."""
    first: dict[int, float] = {}
    for each in told:
        for number in numbers_in(each.html):
            if number in posted:
                first.setdefault(number, each.at)
    return first


def passed_at(told: Sequence[Told], posted: Mapping[int, float]) -> dict[int, float]:
    """Return when each of the posted messages, or one posted after it, was first shown: the list keeps only the newest."""
    newest = list(accumulate((max(numbers_in(each.html), default=-1) for each in told), max))
    places = {number: bisect_left(newest, number) for number in posted}
    return {number: told[place].at for number, place in places.items() if place < len(told)}
