"""The records that come into a topic, for a page that is open: what is new a few times a second, and where the groups are by now."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import NamedTuple

from starlette.requests import Request

from infra.cassandra.reading import EVERY_TENANT
from infra.errors import UsageError
from infra.kafka.browser import Place, browser
from infra.kafka.record import Record
from infra.kafka.selection import Start
from infra.settings import Settings
from ingress.pages.live import LIFE_S, Said
from ingress.pages.looking import Look, read_after, read_look
from ingress.pages.open_streams import OpenStreams
from ingress.pages.records import LINKED
from ingress.pages.render import piece
from ingress.pages.shown_records import shown_record
from ingress.pages.topics import partitions_item
from schemas.topics import TOPICS

SHOWN_AT_ONCE = 25
"""Of what comes between two moments a page is shown the newest so many."""

_EVERY_S = 0.4
_PARTITIONS_S = 4.0
_BEHIND_MAX = 5_000
_BY_NAME = {topic.name: topic for topic in TOPICS}


class Came:
    """What came and was not shown yet: the newest SHOWN_AT_ONCE, and how many others."""

    def __init__(self) -> None:
        self._newest: deque[Record] = deque(maxlen=SHOWN_AT_ONCE)
        self._passed = 0

    def add(self, record: Record) -> None:
        """Note a record."""
        self._passed += len(self._newest) == SHOWN_AT_ONCE
        self._newest.append(record)

    def take(self) -> tuple[list[Record], int]:
        """Return what is to be shown, and how many others passed by."""
        taken = list(self._newest), self._passed
        self._newest.clear()
        self._passed = 0
        return taken


class Followed(NamedTuple):
    """Which records a page follows, and where those are that it has not got yet."""

    look: Look
    since: Mapping[Place, int]


def records_asked_for(request: Request) -> Followed | None:
    """Return what a page follows; None if it may not, or there is no such thing."""
    topic = _BY_NAME.get(request.query_params.get("topic", ""))
    if topic is None or request.state.tenant != EVERY_TENANT:
        return None
    look = read_look(request.query_params, topic, now_ms=request.app.state.clock.now_ms())
    try:
        since = read_after(request.query_params.get("since", ""), topic)
    except UsageError:
        return None
    return Followed(look, since) if look.is_at_end and not look.problem else None


def places_since(since: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
    """Return from where on to follow: who was away for long, and would get thousands at once, begins with what comes now. Pure."""
    places = {place: min(since.get(place, end), end) for place, end in ends.items()}
    behind = sum(ends[place] - offset for place, offset in places.items())
    return places if behind <= _BEHIND_MAX else dict(ends)


async def coming_records(request: Request, followed: Followed) -> AsyncGenerator[Said, None]:
    """Yield what comes, as elements of the page, until the process leaves or for ten minutes; errors are those of `browser`."""
    state, look, came = request.app.state, followed.look, Came()
    begun = time.monotonic()
    reading = asyncio.create_task(_read(state.settings, followed, came), name="follow a topic")
    state.streams.add(reading, request.state.tenant)
    reading.add_done_callback(lambda task: _ended(task, state.streams))
    version, look_again_at, is_linked = "", begun, look.topic.name in LINKED
    try:
        yield {"html": "", "ids": None}
        while not state.is_leaving() and time.monotonic() - begun < LIFE_S:
            html = ""
            if time.monotonic() >= look_again_at:
                table = await partitions_item(request, look.topic)
                if table is not None and table.version != version:
                    html, version = table.html(), table.version
                look_again_at = time.monotonic() + _PARTITIONS_S
            records, passed = came.take()
            html += "".join(piece(request, "topic_row.html", "record_row", shown_record(each), is_linked) for each in records)
            if passed:
                html += piece(request, "topic_row.html", "passed_row", shown_record(records[0]), passed)
            if html:
                yield {"html": html, "ids": None}
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reading), _EVERY_S)
    finally:
        # Not waited for: a browser that goes has us cancelled again and again, and the connection would stay open.
        reading.cancel()


def _ended(task: "asyncio.Task[None]", streams: OpenStreams) -> None:
    """Let go of a task, and take note of its error, which nobody else may be there to do."""
    streams.discard(task)
    if not task.cancelled():
        task.exception()


async def _read(settings: Settings, followed: Followed, came: Came) -> None:
    async with browser(settings, followed.look.selection) as reader:
        places = places_since(followed.since, await reader.places(Start(kind="end")))
        async with aclosing(reader.follow(places)) as records:
            async for record in records:
                came.add(record)
