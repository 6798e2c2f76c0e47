"""Which records of the log somebody wants to see, and from where on: read from words, pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from infra.errors import NotFoundError, UsageError
from infra.kafka.record import Record
from schemas.events.canary import is_canary
from schemas.ids import key_hash
from schemas.topics import STATUS, Topic

LAST_MAX = 100_000
"""The most records that can be asked for from the end."""

_WORDS = {"beginning": "beginning", "earliest": "beginning", "start": "beginning", "end": "end", "latest": "end", "now": "end"}
_LAST = re.compile(r"-(\d{1,19})", re.ASCII)
_OFFSET = re.compile(r"\d{1,19}", re.ASCII)
_EPOCH_MS = re.compile(r"@(\d{1,15})", re.ASCII)
_AGO = re.compile(r"-?(\d{1,9})(s|m|h|d)", re.ASCII)
_CALLBACK = re.compile(rb"o1\.[0-9a-f]{32}\.([0-9a-f]{8})")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_OFFSET_MAX = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where reading begins: the beginning, the end, the `last` so many records, an `offset` of each partition, or a `time`.

    `number` is how many, the offset, or milliseconds since 1970 UTC.
    """

    kind: Literal["beginning", "end", "last", "offset", "time"]
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is wanted: topics, and of them one partition or one key, if given; `canaries` only if asked for.

    A key without its channel and account, such as a phone number, stands for all conversations with that contact.
    """

    topics: tuple[Topic, ...]
    partition: int | None = None
    key: str = ""
    canaries: bool = False

    def partitions(self, topic: Topic, count: int) -> Collection[int]:
        """Return those of a topic's `count` partitions in which wanted records can be; NotFoundError if the wanted one is not there."""
        if self.partition is not None:
            if self.partition >= count:
                raise NotFoundError(f"Topic {topic.name} has no partition {self.partition}: it has {count}, counted from 0.")
            return (self.partition,)
        # A status stands where its send does, which its own key may not tell.
        if self.key and topic != STATUS and not self._is_contact(topic):
            return (key_hash(self.key.encode()) % count,)
        return range(count)

    def wants(self, record: Record, topic: Topic) -> bool:
        """Tell whether a record of a partition that is read is wanted."""
        if not self.key:
            return self.canaries or not is_canary(record.key)
        wanted = self.key.encode()
        if self._is_contact(topic):
            return record.key.rpartition(b":")[2] == wanted
        return record.key == wanted or (topic == STATUS and _names_a_send_of(wanted, record.value))

    def _is_contact(self, topic: Topic) -> bool:
        return topic.key == "conversation" and ":" not in self.key


def _names_a_send_of(key: bytes, value: bytes) -> bool:
    """Tell whether a status carries callback data of this conversation: its own key may be another one of the same person."""
    return any(found[1] == b"%08x" % key_hash(key) for found in _CALLBACK.finditer(value))


def read_start(text: str, *, now_ms: int) -> Start:
    """Return what a person means by `beginning`, `end`, `-10`, `1234`, `15m`, `2026-11-21T12:00` or `@1795262400000`.

    A number is an offset, with a minus how many of the last records; a duration is so long ago; a time without a zone is UTC.
    UsageError for anything else.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return Start(kind="beginning" if _WORDS[word] == "beginning" else "end")
    if found := _LAST.fullmatch(word):
        if not 0 < int(found[1]) <= LAST_MAX:
            raise UsageError(f"--from {text}: between -1 and -{LAST_MAX} records from the end can be asked for.")
        return Start(kind="last", number=int(found[1]))
    if _OFFSET.fullmatch(word):
        return Start(kind="offset", number=min(int(word), _OFFSET_MAX))
    if found := _EPOCH_MS.fullmatch(word):
        return Start(kind="time", number=int(found[1]))
    if found := _AGO.fullmatch(word):
        return Start(kind="time", number=max(0, now_ms - int(found[1]) * _UNIT_MS[found[2]]))
    time_ms = _time_ms(text.strip())
    if time_ms is None:
        raise UsageError(
            f"--from {text!r} is no place in a topic: say beginning, end, -10 (the last ten), an offset such as 1234, 15m (so long ago), "
            "or a time such as 2026-11-21T12:00 (UTC)."
        )
    return Start(kind="time", number=time_ms)


def _time_ms(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        return None
