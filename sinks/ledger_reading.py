"""Fills the ledger from its logs when partitions are taken: [sent], [status], [ledger] and what the sender had not committed.

[sent] and [status] are read from the time of the oldest outbound or planned record that was not committed, and a minute before: whatever
may come a second time from the offsets has its outcome or its status after that. What streams write a second time after a crash of theirs
may be much older, so of [sent] the newest 2,000 records of each partition are read at least, and what was caused before those is looked up
in history. So is what was caused before a plan of [ledger] that has waited for hours, as for a number without a token: to read all that
came after it would take everybody minutes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.fault_points import without
from infra.kafka.connection import aiokafka_options
from infra.kafka.consumer import Taken
from infra.settings import Settings
from schemas.channels.base import Outcome
from schemas.codec import Headers
from schemas.ids import read_callback_data
from schemas.topics import LEDGER, OUTBOUND, SENT, STATUS
from sinks.ledger import Ledger, Partition, Since, told_of

log = structlog.get_logger()

_MARGIN_MS = 60_000
# A send waits for a status for an hour at most (OTTLA_UNKNOWN_WAIT); one that comes while nobody is there is read as any record is.
_PLANS_MS = 2 * 3_600_000
_POLL_MS = 2_000
_READ_MIN = 2_000

Note = Callable[[str, bytes, int, Headers], None]
"""Is told of a record of [sent]: the send's id, the conversation, when it was stored (milliseconds since 1970), and the headers."""

_SENDS = frozenset({*(topic.name for topic in OUTBOUND.values()), LEDGER.name})


class _SentId(msgspec.Struct):
    id: str


class _StatusItem(msgspec.Struct):
    id: str = ""
    status: str = ""
    biz_opaque_callback_data: str = ""


class _StatusChange(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _StatusPart(msgspec.Struct):
    changes: list[_StatusChange] = []


class _Plan(msgspec.Struct):
    send: _SentId
    state: str


_read_plan = msgspec.json.Decoder(_Plan).decode
_read_sent_id = msgspec.json.Decoder(_SentId).decode
_read_part = msgspec.json.Decoder(_StatusPart).decode
_read_item = msgspec.json.Decoder(_StatusItem).decode


async def take(
    ledger: Ledger, settings: Settings, taken: Sequence[Taken], *, now_ms: int, note: Note | None = None, since_ms: int | None = None
) -> None:
    """Start the ledger afresh with these partitions and read what became of their sends; KafkaError if that cannot be read.

    `note` is told of each record of [sent] that is read, from `since_ms` (milliseconds since 1970) on at least, if that is given.
    """
    sends = [each for each in taken if each.topic in _SENDS]
    claimed = {(each.topic, each.partition, offset) for each in sends for offset in each.claims}
    if without("ledger"):
        ledger.begin({each.partition: Partition(Since(0, 0)) for each in sends}, claimed)
        return
    reader = AIOKafkaConsumer(**aiokafka_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    await reader.start()
    try:
        reading = _Reading(reader, settings.topic_prefix, {each.partition for each in sends}, note)
        plans_ms = await reading.oldest_uncommitted_ms([each for each in sends if each.topic == LEDGER.name])
        oldest_ms = await reading.oldest_uncommitted_ms([each for each in sends if each.topic != LEDGER.name])
        needed_ms = max(0, _needed_ms(now_ms, oldest_ms, plans_ms) - _MARGIN_MS)
        sent_since_ms = needed_ms if since_ms is None else max(0, min(needed_ms, since_ms))
        count = await reading.outcomes_and_settlements(needed_ms, sent_since_ms=sent_since_ms)
        await reading.plans([each for each in sends if each.topic == LEDGER.name])
    finally:
        await reader.stop()
    ledger.begin(reading.partitions, claimed)
    log.info("ledger read", partitions=sorted(reading.partitions), records=count, claimed=len(claimed), planned=ledger.planned)


def _needed_ms(now_ms: int, oldest_ms: int | None, plans_ms: int | None) -> int:
    """Return from when on outcomes and statuses are needed: the oldest send that is not committed, or plan that has not waited too long."""
    since_ms = [now_ms]
    if oldest_ms is not None:
        since_ms.append(oldest_ms)
    if plans_ms is not None:
        since_ms.append(max(plans_ms, now_ms - _PLANS_MS))
    return min(since_ms)


@dataclass
class _Reading:
    reader: AIOKafkaConsumer
    prefix: str
    numbers: set[int]
    note: Note | None = None

    def __post_init__(self) -> None:
        self.partitions = {number: Partition(Since(0, 0)) for number in self.numbers}

    def _sources(self, *topics: str) -> list[TopicPartition]:
        return [TopicPartition(self.prefix + topic, number) for topic in topics for number in self.numbers]

    async def outcomes_and_settlements(self, since_ms: int, *, sent_since_ms: int) -> int:
        """Read [status] from a time on, and [sent] from another; return how many records that were."""
        times = dict.fromkeys(self._sources(SENT.name), sent_since_ms) | dict.fromkeys(self._sources(STATUS.name), since_ms)
        sources = list(times)
        self.reader.assign(sources)
        ends = await self.reader.end_offsets(sources)
        found = await self.reader.offsets_for_times(times)
        starts = {source: ends[source] if (start := found[source]) is None else start.offset for source in sources}
        for source, beginning in (await self.reader.beginning_offsets(self._sources(SENT.name))).items():
            starts[source] = max(beginning, min(starts[source], ends[source] - _READ_MIN))
            self.partitions[source.partition].since = Since(starts[source], sent_since_ms)
        return await self._read(starts, ends, self._read_one)

    async def plans(self, ledgers: Sequence[Taken]) -> None:
        """Note the sends of each conversation that wait in [ledger], every record of it that is not committed, and which may have left."""
        starts, ends = await self._uncommitted(ledgers)

        def count(source: TopicPartition, record: Any) -> None:
            partition = self.partitions[source.partition]
            partition.note_planned(record.key or b"", record.offset)
            with suppress(msgspec.DecodeError):  # it becomes a dead letter when it is handled
                planned = _read_plan(record.value)
                if planned.state == Outcome.UNKNOWN.value and not partition.has_outcome(planned.send.id):
                    partition.left.add(planned.send.id)

        await self._read(starts, ends, count)

    async def _uncommitted(self, taken: Sequence[Taken]) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return where what is not committed begins (or what is kept does), and where it ends."""
        committed = {TopicPartition(self.prefix + each.topic, each.partition): each.committed for each in taken}
        sources = list(committed)
        self.reader.assign(sources)
        ends = await self.reader.end_offsets(sources)
        beginnings = await self.reader.beginning_offsets(sources)
        return {source: max(committed[source] or 0, beginnings[source]) for source in sources}, ends

    async def _read(
        self, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int], take_one: Callable[[TopicPartition, Any], None]
    ) -> int:
        waiting = {source for source in starts if starts[source] < ends[source]}
        if not waiting:
            return 0
        self.reader.assign(list(waiting))
        for source in waiting:
            self.reader.seek(source, starts[source])
        count = 0
        while waiting:
            for source, records in (await self.reader.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.offset < ends[source]:
                        count += 1
                        take_one(source, record)
            waiting = {source for source in waiting if await self.reader.position(source) < ends[source]}
            await asyncio.sleep(0)
        return count

    def _read_one(self, source: TopicPartition, record: Any) -> None:
        partition = self.partitions[source.partition]
        if source.topic == self.prefix + STATUS.name:
            for send, platform_id in settlements(record.value):
                partition.note_platform_id(told_of(record.key, send), platform_id)
            return
        if record.offset == partition.since.offset:
            partition.since = Since(record.offset, min(record.timestamp, partition.since.time_ms))
        send = _read_sent_id(record.value).id
        if self.note is not None:
            self.note(send, record.key or b"", record.timestamp, list(record.headers))
        partition.note_outcome(send, offset=record.offset, time_ms=record.timestamp)

    async def oldest_uncommitted_ms(self, taken: Sequence[Taken]) -> int | None:
        """Return the timestamp of the oldest record of a send at or above the committed offsets; None if all is committed."""
        starts, ends = await self._uncommitted(taken)
        waiting = {source for source in starts if starts[source] < ends[source]}
        if not waiting:
            return None
        self.reader.assign(list(waiting))
        for source in waiting:
            self.reader.seek(source, starts[source])
        oldest: int | None = None
        while waiting:
            for source, records in (await self.reader.getmany(*waiting, timeout_ms=_POLL_MS)).items():
                oldest = min(records[0].timestamp, oldest if oldest is not None else records[0].timestamp)
                waiting.discard(source)
                self.reader.pause(source)
        return oldest


def settlements(value: bytes) -> Iterable[tuple[str, str]]:
    """Yield send id and platform id of each status in a record of [status] that carries our callback data."""
    return ((send, platform_id) for send, platform_id, _ in told(value))


def told(value: bytes) -> Iterable[tuple[str, str, str]]:
    """Yield send id, platform id and the status itself, such as `delivered`, of each that carries our callback data."""
    if b"o1." not in value:
        return
    try:
        part = _read_part(value)
    except (msgspec.DecodeError, RecursionError):
        return
    for change in part.changes:
        for raw in change.items:
            try:
                item = _read_item(raw)
            except (msgspec.DecodeError, RecursionError):
                continue
            ours = read_callback_data(item.biz_opaque_callback_data)
            if ours is not None and item.id:
                yield ours[0], item.id, item.status
