"""Which records of a topic somebody wants to look at, from the words of a query, and reading a page of them in bounded time."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import NamedTuple

from infra.errors import OttlaError, UsageError
from infra.kafka.browser import Browser, Place, browser
from infra.kafka.record import Record
from infra.kafka.selection import Selection, Start, read_start
from infra.settings import Settings
from ingress.pages.shown_records import ShownRecord, shown_record
from schemas.topics import Topic

LISTED = 50
"""Records of one page."""

_LOOK_S = 8.0
_SCANNED_MAX = 50_000
_DIGITS_MAX = 18
OFFSET_MAX = 10**_DIGITS_MAX
PARTITION_MAX = 1 << 31
_KEY_LENGTH_MAX = 1_000


_NEWEST = Start(kind="last", number=LISTED)


class TooLongError(OttlaError):
    """The wanted records are so far back, or so few, that they were not found in the time there is."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Records of `topic`: from `start`, or from where an earlier page ended (`after`); `problem` says what is wrong with the words."""

    topic: Topic
    begin: str = ""
    key: str = ""
    partition: str = ""
    canaries: bool = False
    start: Start = _NEWEST
    after: Mapping[Place, int] | None = None
    problem: str = ""

    @property
    def is_at_end(self) -> bool:
        """Whether the newest records are meant, so that those to come belong to them."""
        return self.after is None and self.start.kind in ("last", "end")

    @property
    def selection(self) -> Selection:
        """Which records are meant."""
        partition = int(self.partition) if self.partition else None
        return Selection(topics=(self.topic,), partition=partition, key=self.key, canaries=self.canaries)

    @property
    def query(self) -> dict[str, str]:
        """The words that ask for the same."""
        said = {"from": self.begin, "partition": self.partition, "key": self.key, "canaries": "yes" if self.canaries else ""}
        return {name: value for name, value in said.items() if value}

    @property
    def twin(self) -> list[str]:
        """The command that shows the same on a terminal."""
        options = [("--from", self.begin), ("--partition", self.partition), ("--key", self.key)]
        given = [word for name, value in options if value for word in (name, value)]
        return ["ottla", "tail", self.topic.name, *given, *(["--canaries"] if self.canaries else [])]


class _Passed(Selection):
    """The partitions of a selection, with every record in them: those that are not wanted count as looked at."""

    def wants(self, _record: Record, _topic: Topic) -> bool:
        """Tell that this one is to be read."""
        return True


class Seen(NamedTuple):
    """Records in the order of their time, and the place behind them; `is_more`: there are others there already."""

    records: list[ShownRecord]
    after: str
    is_more: bool


def read_look(query: Mapping[str, str], topic: Topic, *, now_ms: int) -> Look:
    """Return what a query asks for; with a `problem` where it makes no sense. Pure."""
    begin, key, partition, after = (query.get(name, "").strip() for name in ("from", "key", "partition", "after"))
    given = Look(topic=topic, begin=begin, key=key, partition=partition, canaries=bool(query.get("canaries")))
    if partition and not is_number(partition, PARTITION_MAX):
        return replace(given, problem="A partition is a number, counted from 0.")
    if len(key.encode("utf-8", "backslashreplace")) > _KEY_LENGTH_MAX:
        return replace(given, problem="No key is as long as that.")
    try:
        start = read_start(begin, now_ms=now_ms) if begin else given.start
        if start.kind == "last":
            start = Start(kind="last", number=min(start.number, LISTED))
        return replace(given, start=start, after=read_after(after, topic) if after else None)
    except UsageError as error:
        return replace(given, problem=str(error).removeprefix("--from "))


def read_after(text: str, topic: Topic) -> dict[Place, int]:
    """Return the offsets that an earlier page gave out as `0:12,1:7`; UsageError for anything else. Pure."""
    found: dict[Place, int] = {}
    for part in text.split(","):
        number, _, offset = part.partition(":")
        if not is_number(number, PARTITION_MAX) or not is_number(offset, OFFSET_MAX):
            raise UsageError("There is no such page of these records: go back to the first one and on from there.")
        found[topic.name, int(number)] = int(offset)
    return found


async def look_for(settings: Settings, look: Look) -> Seen:
    """Return at most LISTED records.

    NotFoundError if there is no such topic or partition, KafkaUnreachableError if no broker answers, TooLongError if the last wanted
    records were not found in a few seconds.
    """
    if look.is_at_end:
        async with browser(settings, look.selection) as reader:
            return await _last(reader, look)
    wanted = look.selection
    every = _Passed(topics=wanted.topics, partition=wanted.partition, key=wanted.key, canaries=wanted.canaries)
    async with browser(settings, every) as reader:
        return await _from(reader, look)


def written_after(places: Mapping[Place, int]) -> str:
    """Return places as `read_after` reads them. Pure."""
    return ",".join(f"{number}:{offset}" for (_, number), offset in places.items())


async def _last(reader: Browser, look: Look) -> Seen:
    found: list[ShownRecord] = []
    try:
        async with asyncio.timeout(_LOOK_S):
            places = await reader.places(look.start)
            async with aclosing(reader.read(places)) as records:
                async for record in records:
                    found.append(shown_record(record))
                    if len(found) == LISTED:
                        break
    except TimeoutError:
        raise TooLongError(
            f"The last of these were not found in {_LOOK_S:.0f} seconds: say from when on to look, such as 15m or 2026-11-21T12:00."
        ) from None
    return Seen(found, written_after(places), is_more=False)


async def _from(reader: Browser, look: Look) -> Seen:
    """Return the wanted records from a place on; the next page goes on behind what was looked at, also where little was wanted."""
    places = await reader.places(look.start if look.after is None else Start(kind="beginning"))
    if look.after is not None:
        places = {place: max(offset, look.after.get(place, offset)) for place, offset in places.items()}
    found: list[ShownRecord] = []
    scanned = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + _LOOK_S
    wanted = look.selection
    async with aclosing(reader.read(places)) as records:
        async for record in records:
            scanned += 1
            if wanted.wants(record, look.topic):
                found.append(shown_record(record))
            if len(found) == LISTED or scanned == _SCANNED_MAX or loop.time() > until:
                return Seen(found, written_after(places), is_more=True)
    return Seen(found, written_after(places), is_more=False)


def is_number(text: str, below: int) -> bool:
    """Tell whether a text is a number of usual digits below that."""
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX + 1 and int(text) < below
