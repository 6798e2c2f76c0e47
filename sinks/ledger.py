"""The ledger of sends: what is claimed, what has an outcome, what a status has settled. Three logs hold it, this is their reading.

- CLAIMED: the metadata of the sender's committed offsets, which only the partition's owner can write (`infra.kafka.claims`).
- ACCEPTED, REJECTED, UNKNOWN: the records of [sent]. The first record of an id counts.
- settled: a status in [status] carries a send's id and the platform's id, so the send did arrive whatever became of its answer.

When partitions are taken, [sent] and [status] are read from the time of the oldest outbound record that was not committed: whatever may
come a second time has its outcome or its status after that. In memory, the newest 50,000 sends of each partition are remembered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.consumer import Taken
from infra.kafka.record import Record
from infra.metrics import DUPLICATE_SENDS
from infra.settings import Settings
from schemas.ids import read_callback_data
from schemas.topics import OUTBOUND, SENT, STATUS

log = structlog.get_logger()

_REMEMBERED_MAX = 50_000
_MARGIN_MS = 60_000
_POLL_MS = 2_000
_OUTBOUND = frozenset(topic.name for topic in OUTBOUND.values())


class _SentId(msgspec.Struct):
    id: str


class _StatusItem(msgspec.Struct):
    id: str = ""
    biz_opaque_callback_data: str = ""


class _StatusChange(msgspec.Struct):
    items: list[msgspec.Raw] = []


class _StatusPart(msgspec.Struct):
    changes: list[_StatusChange] = []


class Ledger:
    """What is known of the sends of the partitions this worker owns."""

    def __init__(self) -> None:
        self._outcomes: dict[int, OrderedDict[str, None]] = {}
        self._settled: dict[int, OrderedDict[str, str]] = {}
        self._claimed: set[tuple[str, int, int]] = set()
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def has_outcome(self, partition: int, send: str) -> bool:
        """Tell whether this send has its outcome."""
        return send in self._outcomes.get(partition, ())

    def was_claimed(self, record: Record) -> bool:
        """Tell whether a former owner claimed this record and left no outcome: it may have been sent."""
        return (record.topic, record.partition, record.offset) in self._claimed

    def note_outcome(self, record: Record, send: str) -> None:
        """Remember that this send has its outcome."""
        _remember(self._outcomes.setdefault(record.partition, OrderedDict()), send, None)
        self._claimed.discard((record.topic, record.partition, record.offset))

    def note_accepted(self, partition: int, send: str, platform_id: str) -> None:
        """Remember the platform's id of a send, from its answer or from a status; a second id means that it was sent twice."""
        settled = self._settled.setdefault(partition, OrderedDict())
        known = settled.get(send)
        if known is not None and known != platform_id:
            DUPLICATE_SENDS.inc()
            log.error("sent twice", send=send, platform_ids=[known, platform_id])
        if known is None:
            _remember(settled, send, platform_id)
        waiting = self._waiting.get(send)
        if waiting is not None and not waiting.done():
            waiting.set_result(platform_id)

    def note_statuses(self, record: Record) -> None:
        """Take what a record of [status] tells about our sends; what is no status of ours is passed over."""
        for send, platform_id in _settlements(record.value):
            self.note_accepted(record.partition, send, platform_id)

    async def settled(self, partition: int, send: str, *, timeout_s: float) -> str:
        """Return the platform's id of a send as soon as a status has brought it; empty if none does within `timeout_s` seconds."""
        known = self._settled.setdefault(partition, OrderedDict()).get(send)
        if known is not None:
            return known
        waiting = self._waiting[send] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError:
            return ""
        finally:
            self._waiting.pop(send, None)

    async def take(self, settings: Settings, taken: Sequence[Taken]) -> None:
        """Start afresh with these partitions and read what became of their sends; KafkaError if that cannot be read."""
        outbound = [each for each in taken if each.topic in _OUTBOUND]
        self._outcomes, self._settled = {}, {}
        self._claimed = {(each.topic, each.partition, offset) for each in outbound for offset in each.claims}
        reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, auto_offset_reset="earliest")
        await reader.start()
        try:
            since_ms = await _oldest_uncommitted_ms(reader, settings.topic_prefix, outbound)
            if since_ms is not None:
                partitions = {each.partition for each in outbound}
                count = await self._read(reader, settings.topic_prefix, partitions, since_ms - _MARGIN_MS)
                log.info("ledger read", partitions=sorted(partitions), records=count, claimed=len(self._claimed))
        finally:
            await reader.stop()

    async def _read(self, reader: AIOKafkaConsumer, prefix: str, partitions: set[int], since_ms: int) -> int:
        sources = [TopicPartition(topic.named(prefix), partition) for topic in (SENT, STATUS) for partition in partitions]
        reader.assign(sources)
        ends = await reader.end_offsets(sources)
        starts = await reader.offsets_for_times(dict.fromkeys(sources, max(0, since_ms)))
        waiting = {source for source in sources if starts[source] is not None and starts[source].offset < ends[source]}
        reader.assign(list(waiting))
        for source in waiting:
            reader.seek(source, starts[source].offset)
        count = 0
        while waiting:
            for source, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
                count += len(records)
                for record in records:
                    self._read_one(source, record.value, is_status=source.topic == STATUS.named(prefix))
            waiting = {source for source in waiting if await reader.position(source) < ends[source]}
        return count

    def _read_one(self, source: TopicPartition, value: bytes, *, is_status: bool) -> None:
        if is_status:
            for send, platform_id in _settlements(value):
                self.note_accepted(source.partition, send, platform_id)
            return
        send = msgspec.json.decode(value, type=_SentId).id
        _remember(self._outcomes.setdefault(source.partition, OrderedDict()), send, None)


def _remember(known: "OrderedDict[str, str] | OrderedDict[str, None]", send: str, value: str | None) -> None:
    known[send] = value  # type: ignore[assignment]  # the two kinds of values never share a dict
    if len(known) > _REMEMBERED_MAX:
        known.popitem(last=False)


def _settlements(value: bytes) -> Iterable[tuple[str, str]]:
    """Yield send id and platform id of each status in a record of [status] that carries our callback data."""
    if b"o1." not in value:
        return
    try:
        part = msgspec.json.decode(value, type=_StatusPart)
    except (msgspec.DecodeError, RecursionError):
        return
    for change in part.changes:
        for raw in change.items:
            try:
                item = msgspec.json.decode(raw, type=_StatusItem)
            except (msgspec.DecodeError, RecursionError):
                continue
            ours = read_callback_data(item.biz_opaque_callback_data)
            if ours is not None and item.id:
                yield ours[0], item.id


async def _oldest_uncommitted_ms(reader: AIOKafkaConsumer, prefix: str, taken: Sequence[Taken]) -> int | None:
    """Return the timestamp of the oldest outbound record at or above the committed offsets; None if all is committed."""
    committed = {TopicPartition(prefix + each.topic, each.partition): each.committed for each in taken}
    sources = list(committed)
    reader.assign(sources)
    ends = await reader.end_offsets(sources)
    beginnings = await reader.beginning_offsets(sources)
    starts = {source: max(committed[source] or 0, beginnings[source]) for source in sources}
    waiting = {source for source in sources if starts[source] < ends[source]}
    if not waiting:
        return None
    reader.assign(list(waiting))
    for source in waiting:
        reader.seek(source, starts[source])
    oldest: int | None = None
    while waiting:
        for source, records in (await reader.getmany(*waiting, timeout_ms=_POLL_MS)).items():
            oldest = min(records[0].timestamp, oldest if oldest is not None else records[0].timestamp)
            waiting.discard(source)
            reader.pause(source)
    return oldest
