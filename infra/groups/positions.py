"""Where a group is to go on, in the words of `kafka-consumer-groups`. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from infra.errors import UsageError

_DURATION = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")
_FILE_ROW = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*,\s*(\d{1,9})\s*,\s*(\d{1,18})\s*$")
_TOPIC = re.compile(r"^([A-Za-z0-9._-]+)(?::(\d{1,9}(?:,\d{1,9})*))?$")


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where to go on.

    `amount` is what `to` speaks of: an offset, how many records to shift by, or a time in milliseconds since 1970. With `offsets` it is an
    offset for each topic and partition.
    """

    to: Literal["earliest", "latest", "current", "offset", "shift", "time", "offsets"]
    amount: int = 0
    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a group stands in a partition, and what the log has there: offsets of the next record, of the first kept, of the next written.

    `at_time` is that of the first record at or after the wanted time (the end if there is none), where one is wanted.
    """

    topic: str
    partition: int
    committed: int | None
    begin: int
    end: int
    at_time: int | None = None

    @property
    def next(self) -> int:
        """The offset that is handled next."""
        return self.begin if self.committed is None else max(self.begin, self.committed)


def new_offset(position: Position, standing: Standing) -> int:
    """Return the offset to go on from, kept within what the log has."""
    wanted = {
        "earliest": standing.begin,
        "latest": standing.end,
        "current": standing.next,
        "offset": position.amount,
        "shift": standing.next + position.amount,
        "time": standing.end if standing.at_time is None else standing.at_time,
        "offsets": position.offsets.get((standing.topic, standing.partition), standing.next),
    }[position.to]
    return min(max(wanted, standing.begin), standing.end)


def parse_time(text: str) -> int:
    """Return an ISO time such as 2026-11-21T09:30:00 (UTC unless it says another zone), in ms since 1970; UsageError."""
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time: write it as 2026-11-21T09:30:00, which is in UTC, or as 2026-11-21T09:30:00+01:00."
        ) from None


def parse_duration(text: str) -> int:
    """Return an ISO duration such as PT1H30M or P2D in milliseconds; UsageError."""
    found = _DURATION.match(text)
    if found is None or not any(found.groups()):
        raise UsageError(f"{text!r} is no duration: write it as PT90M, PT36H or P2D.")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)


def parse_file(text: str) -> dict[tuple[str, int], int]:
    """Return the offsets of a file with `topic,partition,offset` in each line, as `kafka-consumer-groups` exports it; UsageError."""
    offsets = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        found = _FILE_ROW.match(line.replace('"', ""))
        if found is None:
            raise UsageError(f"Line {number} of the file is not topic,partition,offset.")
        offsets[found[1], int(found[2])] = int(found[3])
    if not offsets:
        raise UsageError("The file names no offset: write topic,partition,offset in each line.")
    return offsets


def parse_topics(words: Collection[str]) -> dict[str, frozenset[int] | None]:
    """Return the partitions wanted of each topic, None for all; a word is a topic, or `raw:0,3` for some of its partitions. UsageError."""
    wanted: dict[str, frozenset[int] | None] = {}
    for word in words:
        found = _TOPIC.match(word)
        if found is None:
            raise UsageError(f"{word!r} is no topic: write raw, or raw:0,3 for some of its partitions.")
        numbers = frozenset(int(number) for number in found[2].split(",")) if found[2] else None
        before = wanted.get(found[1], frozenset())
        wanted[found[1]] = None if numbers is None or before is None else before | numbers
    return wanted
