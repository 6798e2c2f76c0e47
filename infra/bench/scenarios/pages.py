"""Scenario: how soon the pages are there and show what came, with a long history and under load, and what looking costs."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode

import aiohttp

from infra.bench.browser import Browser, Told
from infra.bench.figures import Figure, Result, middle, used
from infra.bench.floors.running import ToldFloor
from infra.bench.installation import Installation
from infra.bench.open_pages import SHOWN_WITHIN_S, OpenPage, Shown, go_on, opened, passed_at, shown_at
from infra.bench.past import PIECES, key_of, time_of, write_past
from infra.bench.users import FIRST_PHONE
from infra.demo.latency import percentile
from infra.errors import OttlaError

LIST, THREAD = "conversations", "thread"
DOWN, OVERVIEW, TOPICS = "conversations, further down", "overview", "topics"
PAGES = (LIST, DOWN, THREAD, OVERVIEW, TOPICS)
NOTHING = "livez, which reads nothing"
"""What the machine itself takes for an answer at that moment."""

_LIST_PATH = "/conversations"
_LIST_EVENTS = "/events?view=conversations"
_OVERVIEW_EVENTS = "/events?view=overview"
_OLDER = re.compile(r'href="(/conversations\?before=[^"]+)"')
_THREAD = re.compile(r'<a class="row" href="(/conversations/[^"]+)"')
# Figures of the flow are good for a second: a page that is asked for sooner shows those of the one before.
_STALE_S = 1.1
# A page of a thread and more.
_TURNS_OF_THREAD = 30
_PROBE_PAUSE_S = 0.45
_SETTLE_S = 1.0
_WATCHER = "a lag watcher"
_COST = "metrics, lag watcher and an open overview"
_FIRST_BYTE_MS, _LIVE_S, _LOOKING_PERCENT = 200.0, 1.0, 3.0
_NEARLY = 0.9


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two turns under the same load, one after the other: the share of a processor that each process took, looked at and left alone."""

    looked: Mapping[str, float]
    alone: Mapping[str, float]

    def cost(self, *names: str) -> float:
        """Return the share of a processor that looking took, of these processes (of all without names)."""
        return sum(share - self.alone.get(name, 0.0) for name, share in self.looked.items() if not names or name in names)


@dataclass
class Found:
    """What was measured; times are seconds, by page. `never` were not shown, `reached` is the load's rate as it was taken."""

    first_bytes: dict[str, list[float]] = field(default_factory=dict)
    under_load: dict[str, list[float]] = field(default_factory=dict)
    live: dict[str, list[float]] = field(default_factory=dict)
    live_under_load: dict[str, list[float]] = field(default_factory=dict)
    never: int = 0
    reached: float = math.nan
    pairs: list[Pair] = field(default_factory=list)


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Write a past, ask for pages, keep pages open, then look and leave alone in turns."""
    plan = installation.plan
    steps = PIECES + 4 + plan.pairs
    found = Found()
    now_ms = await write_past(installation, lambda done: progress(done, steps))
    async with Browser(installation.url, installation.settings.admin_key.get_secret_value()) as browser:
        thread = await _thread(installation, browser)
        middle_of_past = plan.past_conversations // 2
        place = f"{time_of(middle_of_past, conversations=plan.past_conversations, now_ms=now_ms)}.{key_of(middle_of_past)}"
        down = f"{_LIST_PATH}?{urlencode({'before': place})}"
        found.first_bytes = await _first_bytes(browser, thread, down, requests=plan.requests)
        progress(PIECES + 1, steps)
        found.live = await _live(installation, browser, thread, found, rate=0)
        progress(PIECES + 2, steps)
        async with installation.users.posting(plan.pages_rate, conversations=plan.conversations):
            await asyncio.sleep(plan.warm_up_s)
            found.under_load = await _first_bytes(browser, thread, down, requests=plan.requests)
        progress(PIECES + 3, steps)
        found.live_under_load = await _live(installation, browser, thread, found, rate=plan.pages_rate)
        progress(PIECES + 4, steps)
        async with (
            ToldFloor("lag_watcher", (), installation) as watcher,
            installation.users.posting(plan.pages_rate, conversations=plan.conversations),
        ):
            installation.meter.add(_WATCHER, watcher.pid)
            await asyncio.sleep(plan.warm_up_s)
            for number in range(plan.pairs):
                found.pairs.append(await _pair(installation, browser, watcher, looked_first=bool(number % 2)))
                progress(PIECES + 5 + number, steps)
            installation.meter.remove(_WATCHER, watcher.pid)
    await installation.settled()
    about = (
        f"{plan.past_conversations:,} conversations in history, evenly over 30 days; a browser that is logged "
        f"in with the admin key. Load: {plan.pages_rate:g} messages a second over the whole path, in {plan.conversations} conversations. "
        "Platform, model, users and browser are simulated in the bench's own process, which is not counted."
    )
    return Result(name="pages", about=about, figures=figures(found, rate=plan.pages_rate))


async def _thread(installation: Installation, browser: Browser) -> str:
    """Hold a conversation that is longer than a page, and return the path of its page."""
    for _ in range(_TURNS_OF_THREAD):
        await installation.users.converse(_prober(installation), patience_s=installation.plan.patience_s)
    await installation.settled()
    listed = await browser.get(f"{_LIST_PATH}?q={FIRST_PHONE + _prober(installation)}")
    link = _THREAD.search(listed.html)
    if link is None:
        raise OttlaError("The conversation that was just held is not found.")
    return unescape(link[1])


def _prober(installation: Installation) -> int:
    """Return the number of the conversation that is looked at; none of the load's."""
    return installation.plan.conversations


async def _first_bytes(browser: Browser, thread: str, down: str, *, requests: int) -> dict[str, list[float]]:
    """Ask for each page so often, one request after another; the list further down goes on from page to page."""
    paths = {NOTHING: "/livez", LIST: _LIST_PATH, DOWN: down, THREAD: thread, OVERVIEW: "/", TOPICS: "/topics"}
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(requests):
        for name, of_page in times.items():
            if name in (OVERVIEW, TOPICS):
                await asyncio.sleep(_STALE_S)
            answer = await browser.get(paths[name])
            of_page.append(answer.first_byte_s)
            if name == DOWN:
                older = _OLDER.search(answer.html)
                paths[DOWN] = unescape(older[1]) if older is not None else down
    return times


async def _live(installation: Installation, browser: Browser, thread: str, found: Found, *, rate: float) -> dict[str, list[float]]:
    """Keep list and thread open while somebody writes there now and then, and others as a load; return how long each took to show."""
    plan, users = installation.plan, installation.users
    conversation = thread.removeprefix(f"{_LIST_PATH}/")
    numbers: list[int] = []
    async with (
        opened(browser, _LIST_EVENTS) as listed,
        opened(browser, f"/events?view=thread&conversation={conversation}") as open_thread,
        AsyncExitStack() as load,
    ):
        begun = time.perf_counter()
        loaded = await load.enter_async_context(users.posting(rate, conversations=plan.conversations)) if rate else []
        if rate:
            await asyncio.sleep(plan.warm_up_s)
        until = time.perf_counter() + plan.seconds * plan.rounds
        while time.perf_counter() < until or not numbers:
            numbers.append(await users.post(_prober(installation)))
            await asyncio.sleep(_PROBE_PAUSE_S)
        await load.aclose()
        if rate:
            found.reached = len(loaded) / (time.perf_counter() - begun)
        return {
            THREAD: await _times(open_thread, {number: users.posted_at(number) for number in numbers}, shown_at, found),
            LIST: await _times(listed, {number: users.posted_at(number) for number in (*numbers, *loaded)}, passed_at, found),
        }


async def _times(page: OpenPage, posted: Mapping[int, float], shown: Shown, found: Found) -> list[float]:
    """Wait until all that was posted was shown; return how long each took, and count what did not come."""

    def is_there(told: Sequence[Told]) -> bool:
        return posted.keys() <= shown(told, posted).keys()

    with suppress(TimeoutError):
        await page.wait_for(is_there)
    at = shown(page.told, posted)
    found.never += len(posted.keys() - at.keys())
    return [each - posted[number] for number, each in at.items()]


async def _pair(installation: Installation, browser: Browser, watcher: ToldFloor, *, looked_first: bool) -> Pair:
    seconds = installation.plan.seconds
    shares: dict[bool, Mapping[str, float]] = {}
    for is_looked in (looked_first, not looked_first):
        async with AsyncExitStack() as stack:
            if is_looked:
                stack.push_async_callback(watcher.told)
                await watcher.tell(_SETTLE_S + seconds)
                await stack.enter_async_context(_scraped(installation))
                await browser.get("/")
                await stack.enter_async_context(opened(browser, _OVERVIEW_EVENTS))
            await asyncio.sleep(_SETTLE_S)
            before, begun = installation.meter.cpu_s(), time.perf_counter()
            await asyncio.sleep(seconds)
            took, wall_s = used(before, installation.meter.cpu_s()), time.perf_counter() - begun
            shares[is_looked] = {name: each / wall_s for name, each in took.items()}
    return Pair(looked=shares[True], alone=shares[False])


@asynccontextmanager
async def _scraped(installation: Installation) -> AsyncIterator[None]:
    """Ask every role for its metrics, now and again and again, while the context is open."""
    scraping = asyncio.create_task(_scrape(installation))
    try:
        yield
        go_on(scraping)
    finally:
        scraping.cancel()
        await asyncio.gather(scraping, return_exceptions=True)


async def _scrape(installation: Installation) -> None:
    headers = {"Authorization": f"Bearer {installation.settings.admin_key.get_secret_value()}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
        while True:
            for child in installation.children.values():
                async with session.get(f"http://127.0.0.1:{child.port}/metrics") as answer:
                    await answer.read()
            await asyncio.sleep(installation.plan.scrape_s)


def figures(found: Found, *, rate: float) -> list[Figure]:
    """Return what was found and what it must be."""
    load = f"at {rate:g} messages a second"
    return [
        *(each for page, times in found.first_bytes.items() for each in _first_byte(page, "first byte", times, is_promised=page in PAGES)),
        *(each for page, times in found.under_load.items() for each in _first_byte(page, f"first byte {load}", times, is_promised=False)),
        *(each for page, times in found.live.items() for each in _shown(f"open {page}, an event", page, times)),
        *(each for page, times in found.live_under_load.items() for each in _shown(f"open {page}, an event {load}", page, times)),
        Figure(
            name="load that was taken",
            value=found.reached,
            unit="messages/s",
            how=f"webhooks stored a second while pages were open; without nearly all of {rate:g} the figures beside it say little",
            must=_NEARLY * rate,
            at_most=False,
        ),
        Figure(name="never shown", value=float(found.never), unit="events", how=f"not within {SHOWN_WITHIN_S:g} s", must=0.0),
        *_looking(found.pairs, load),
    ]


def _first_byte(page: str, what: str, times_s: Sequence[float], *, is_promised: bool) -> list[Figure]:
    how = f"{len(times_s)} requests one after another, from the request until its answer begins"
    must = _FIRST_BYTE_MS if is_promised else None
    return [
        Figure(name=f"{page}, {what}, {word}", value=1000 * percentile(times_s, share), unit="ms", how=how, must=must)
        for word, share in (("p50", 0.5), ("longest", 1.0))
    ]


def _shown(name: str, page: str, times_s: Sequence[float]) -> list[Figure]:
    what = "it is on the page" if page == THREAD else "it, or one posted after it, is on the page, which has room for 25 conversations"
    how = f"{len(times_s)} messages, from the post of the webhook until {what}"
    return [
        Figure(name=f"{name}, {word}", value=percentile(times_s, share), unit="s", how=how, must=must)
        for word, share, must in (("p50", 0.5, None), ("longest", 1.0, _LIVE_S))
    ]


def _looking(pairs: Sequence[Pair], load: str) -> list[Figure]:
    unit = "% of a core"
    how = (
        f"{load}: processor time of all that is counted, with an open overview page, every role's metrics scraped and a second lag watcher "
        f"in a process of its own, less that of the turn next to it without these; the ingress's own watcher runs in both. Median of "
        f"{len(pairs)} pairs of turns"
    )
    costs = [100 * pair.cost() for pair in pairs]
    names = list(pairs[0].looked) if pairs else []
    return [
        Figure(name=_COST, value=middle(costs), unit=unit, how=how, must=_LOOKING_PERCENT),
        Figure(name=f"{_COST}, least pair", value=min(costs, default=math.nan), unit=unit, how="as above"),
        Figure(name=f"{_COST}, most pair", value=max(costs, default=math.nan), unit=unit, how="as above"),
        *(
            Figure(
                name=f"{_COST}: {name}",
                value=middle([100 * pair.cost(name) for pair in pairs]),
                unit=unit,
                how=f"of it, processor time of {name}",
            )
            for name in names
        ),
        *(
            Figure(
                name=f"{name}, left alone", value=middle([100 * pair.alone[name] for pair in pairs]), unit=unit, how=f"{load}, without both"
            )
            for name in names
        ),
    ]
