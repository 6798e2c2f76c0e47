"""Which of its assigned partitions a consumer reads: neither those of which enough is held, nor, for a moment, those that may come late."""

import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from infra.lanes import Watermark

FETCHED_MAX = 1_000
"""How many records one fetch hands over at most."""

_REST_S = 0.25
_LOOK_S = 1.0


class ReadPartitions:
    """Pauses and resumes partitions of an aiokafka consumer.

    `held_max` bounds, by topic, how many records of its assigned partitions together may be held, of which each has its share; `unhurried`
    topics may be read a quarter of a second late, so that one fetch brings many of their records. `marks` are those of the partitions that
    are assigned. Topics have their prefix.
    """

    def __init__(self, *, held_max: Mapping[str, int], unhurried: Collection[str]) -> None:
        self._held_max = held_max
        self._shares: dict[TopicPartition, int] = {}
        self._enough: set[TopicPartition] = set()
        self._unhurried = frozenset(unhurried)
        self._not_read: set[TopicPartition] = set()
        self._resting: set[TopicPartition] = set()
        self._rest_until = 0.0

    def choose(self, consumer: Any, marks: Mapping[TopicPartition, Watermark]) -> float:
        """Say what is read now; return for how many seconds at most, after which it is to be chosen again."""
        rest_s = self._rest_until - time.monotonic()
        not_read = self._held_back(marks)
        if rest_s > 0:
            not_read |= self._resting
        if not_read != self._not_read:
            assigned = consumer.assignment()
            consumer.pause(*(not_read - self._not_read & assigned))
            consumer.resume(*(self._not_read - not_read & assigned))
            self._not_read = not_read
        return max(0.001, rest_s) if rest_s > 0 else _LOOK_S

    def fetched(self, consumer: Any, marks: Mapping[TopicPartition, Watermark], records: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Let the unhurried partitions be read again a little later, once they have brought something.

        This has to be said at once, before aiokafka asks the broker for more; and not while it holds more, which it would forget and fetch
        again, as it does with what another broker sends just then.
        """
        if not self._unhurried or sum(map(len, records.values())) >= FETCHED_MAX:
            return
        if any(source.topic in self._unhurried for source in records):
            self._rest_until = time.monotonic() + _REST_S
            self._resting = {source for source in marks if source.topic in self._unhurried}
            self.choose(consumer, marks)

    def assigned(self, consumer: Any, partitions: Collection[TopicPartition]) -> None:
        """Read all of what was assigned now."""
        counts = Counter(source.topic for source in partitions)
        self._shares = {
            each: max(1, self._held_max[each.topic] // counts[each.topic]) for each in partitions if each.topic in self._held_max
        }
        self._rest_until = 0.0
        self._not_read.clear()
        self._enough.clear()
        consumer.resume(*partitions)

    def _held_back(self, marks: Mapping[TopicPartition, Watermark]) -> set[TopicPartition]:
        """Return the partitions of which as much is held as may be, and those of which that has been so and half of it still is.

        A fetch brings many records: with room for one, all others would be fetched for nothing.
        """
        self._enough = {each for each, mark in marks.items() if each in self._shares and self._is_held_back(mark, each)}
        return set(self._enough)

    def _is_held_back(self, mark: Watermark, source: TopicPartition) -> bool:
        share = self._shares[source]
        # Of what had been left in the log the next always comes when one is done: half of it would be there for as long as that goes on.
        return mark.span >= share or (source in self._enough and mark.span - mark.late >= max(1, share // 2))

    def is_enough(self, source: TopicPartition, mark: Watermark) -> bool:
        """Tell whether as much of a partition is held as may be; then it is read no more until half of that is done."""
        if source not in self._shares or mark.span < self._shares[source]:
            return False
        self._enough.add(source)
        return True

    def room(self, source: TopicPartition, mark: Watermark) -> int:
        """Return how many more records of a partition may be held; a large number where nothing bounds that."""
        return max(0, self._shares[source] - mark.span) if source in self._shares else sys.maxsize
