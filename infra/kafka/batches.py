"""What waits to be written to one partition: records gathered into batches, numbered so that sending one again cannot write it twice.

The broker writes a batch of a producer only if its sequence number follows the last one of the same producer id and epoch in that
partition, and answers a repeated one with the offset it already has (https://kafka.apache.org/documentation/#semantics, KIP-98). So a batch
keeps its number until its outcome is known. One whose outcome stays unknown ends the epoch: the next one begins the epoch after it at
number 0 (KIP-360), and if the old one is still on its way the broker refuses it.
"""

import asyncio
from collections import deque
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.codec import Headers

BATCH_BYTES = 256 * 1024
"""A batch is closed at this size; a larger record is a batch of its own. Every topic takes more (schemas/topics.py)."""

_APART_S = 0.5
"""How much later than the first record of a batch another one of it may expire by itself; a batch expires with its first."""
_MAGIC = 2
_NOBODY = -1
_EPOCH_MAX = 2**15 - 1
_SEQUENCES = 2**31


class Waiting(NamedTuple):
    """A record that was taken."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    size: int
    future: asyncio.Future[int]
    deadline: float
    """In the event loop's time."""


class Batch:
    """Records of one partition that are written, and acknowledged, together."""

    __slots__ = ("_builder", "count", "data", "deadline", "futures", "sent", "size")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.futures: list[asyncio.Future[int]] = []
        """Of the records in their order, until they are settled."""
        self.count = 0
        self.size = 0
        self.sent = False
        """Whether a broker may have it."""
        self.data: bytearray | None = None
        """As it goes out, once it has its number."""
        self._builder = DefaultRecordBatchBuilder(
            _MAGIC, 0, is_transactional=0, producer_id=_NOBODY, producer_epoch=_NOBODY, base_sequence=0, batch_size=BATCH_BYTES
        )

    def append(self, record: Waiting) -> bool:
        """Take a record, unless it is full, numbered, or so much older that the record would have to go before its time."""
        if self.data is not None or record.deadline - self.deadline > _APART_S:
            return False
        if self._builder.append(self.count, record.timestamp_ms, key=record.key, value=record.value, headers=record.headers) is None:
            return False
        self.futures.append(record.future)
        self.count += 1
        self.size += record.size
        return True

    def number(self, *, producer_id: int, epoch: int, sequence: int) -> None:
        """Give it its number, for good."""
        if self.data is None:
            self._builder.set_producer_state(producer_id, epoch, sequence)
            self.data = self._builder.build()


class PartitionQueue:
    """The batches of one partition: those that wait, in order, and the one that is on its way."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.in_flight: Batch | None = None
        self.not_before = 0.0
        """When to try again after an error, in the event loop's time."""
        self._batches: deque[Batch] = deque()
        self._producer_id = _NOBODY
        self._spent_id = _NOBODY
        self._epoch = 0
        self._sequence = 0
        self._failures = 0

    def append(self, record: Waiting) -> None:
        """Put a record at the end."""
        if self._batches and self._batches[-1].append(record):
            return
        batch = Batch(record.deadline)
        batch.append(record)
        self._batches.append(batch)

    @property
    def is_waiting(self) -> bool:
        """Whether a batch could go out next."""
        return self.in_flight is None and bool(self._batches)

    @property
    def next_size(self) -> int:
        """How many bytes the next batch has; 0 if there is none."""
        return self._batches[0].size if self._batches else 0

    def take(self, producer_id: int | None) -> bool:
        """Let the oldest batch go out; False if it needs a producer id, and none is given but one whose epochs are used up."""
        if self._producer_id == _NOBODY:
            if producer_id is None or producer_id == self._spent_id:
                return False
            self._producer_id = producer_id
        batch = self.in_flight = self._batches.popleft()
        batch.number(producer_id=self._producer_id, epoch=self._epoch, sequence=self._sequence)
        return True

    def leave(self) -> bytearray:
        """Return the batch on its way as bytes; from now on a broker may have it."""
        batch = self.in_flight
        if batch is None or batch.data is None:
            raise RuntimeError(f"nothing is on its way to {self.topic}-{self.number}")
        batch.sent = True
        return batch.data

    def acknowledged(self) -> Batch:
        """Forget the batch on its way, which was written, and return it."""
        batch = self._landed()
        self._failures = 0
        self._sequence = (self._sequence + batch.count) % _SEQUENCES
        return batch

    def is_too_late(self, now: float) -> bool:
        """Tell whether the batch on its way has no time left, and has not left yet."""
        return self.in_flight is not None and not self.in_flight.sent and self.in_flight.deadline <= now

    def again(self) -> int:
        """Put the batch on its way back, to go out once more with the same number; return how many times in a row that was."""
        self._batches.appendleft(self._landed())
        self._failures += 1
        return self._failures

    def given_up(self) -> Batch:
        """Forget the batch on its way, which is not tried again, and return it."""
        batch = self._landed()
        self._forget(batch)
        return batch

    def expire(self, now: float) -> list[Batch]:
        """Return the batches whose time is over. Of one that is on its way the outcome is still awaited: the next number depends on it."""
        over = [self.in_flight] if self.in_flight is not None and self.in_flight.deadline <= now else []
        while self._batches and self._batches[0].deadline <= now:
            batch = self._batches.popleft()
            self._forget(batch)
            over.append(batch)
        return over

    def _landed(self) -> Batch:
        batch, self.in_flight = self.in_flight, None
        if batch is None:
            raise RuntimeError(f"nothing is on its way to {self.topic}-{self.number}")
        return batch

    def _forget(self, batch: Batch) -> None:
        if not batch.sent:
            return  # nobody has seen its number
        self._sequence = 0
        self._epoch += 1
        if self._epoch > _EPOCH_MAX:
            self._epoch, self._spent_id, self._producer_id = 0, self._producer_id, _NOBODY
