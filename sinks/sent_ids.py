"""Which sends have an outcome already: the first record of an id counts, a second one is not sent again.

Ids are remembered in memory by partition. When partitions are taken, [sent] is read again from the time of the oldest outbound record
that was not committed: whatever could come a second time has its outcome after that.
"""

from collections import OrderedDict

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.settings import Settings
from schemas.topics import OUTBOUND, SENT

log = structlog.get_logger()

_IDS_OF_PARTITION_MAX = 50_000
_MARGIN_MS = 60_000
_POLL_MS = 2_000


class _SentId(msgspec.Struct):
    id: str


class SentIds:
    """The ids of sends with an outcome, the newest 50,000 of each partition."""

    def __init__(self) -> None:
        self._ids: dict[int, OrderedDict[str, None]] = {}

    def add(self, partition: int, send: str) -> None:
        """Remember that this send has its outcome."""
        ids = self._ids.setdefault(partition, OrderedDict())
        ids[send] = None
        if len(ids) > _IDS_OF_PARTITION_MAX:
            ids.popitem(last=False)

    def has(self, partition: int, send: str) -> bool:
        """Tell whether this send has its outcome."""
        return send in self._ids.get(partition, ())

    async def load(self, settings: Settings, *, group: str, partitions: set[int]) -> None:
        """Read from [sent] what became of the sends that these partitions may bring again; KafkaError if it cannot be read."""
        self._ids = {}
        reader = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            group_id=settings.topic_prefix + group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await reader.start()
        try:
            since_ms = await _oldest_uncommitted_ms(reader, settings.topic_prefix, partitions)
            if since_ms is not None:
                await self._read(reader, settings.topic_prefix, partitions, since_ms - _MARGIN_MS)
        finally:
            await reader.stop()

    async def _read(self, reader: AIOKafkaConsumer, prefix: str, partitions: set[int], since_ms: int) -> None:
        sources = [TopicPartition(SENT.named(prefix), partition) for partition in partitions]
        reader.assign(sources)
        ends = await reader.end_offsets(sources)
        starts = await reader.offsets_for_times(dict.fromkeys(sources, max(0, since_ms)))
        waiting = {source for source in sources if starts[source] is not None and starts[source].offset < ends[source]}
        if not waiting:
            return
        reader.assign(list(waiting))
        for source in waiting:
            reader.seek(source, starts[source].offset)
        count = 0
        while waiting:
            for source, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    self.add(source.partition, msgspec.json.decode(record.value, type=_SentId).id)
                    count += 1
            waiting = {source for source in waiting if await reader.position(source) < ends[source]}
        log.info("outcomes read", partitions=sorted(partitions), sends=count)


async def _oldest_uncommitted_ms(reader: AIOKafkaConsumer, prefix: str, partitions: set[int]) -> int | None:
    """Return the timestamp of the oldest outbound record above the committed offsets; None if all is committed."""
    sources = [TopicPartition(topic.named(prefix), partition) for topic in OUTBOUND.values() for partition in partitions]
    reader.assign(sources)
    ends = await reader.end_offsets(sources)
    beginnings = await reader.beginning_offsets(sources)
    starts = {source: max(await reader.committed(source) or 0, beginnings[source]) for source in sources}
    waiting = {source for source in sources if starts[source] < ends[source]}
    if not waiting:
        return None
    reader.assign(list(waiting))
    for source in waiting:
        reader.seek(source, starts[source])
    oldest: int | None = None
    while waiting:
        for source, records in (await reader.getmany(*waiting, timeout_ms=_POLL_MS, max_records=len(waiting) * 4)).items():
            oldest = min(records[0].timestamp, oldest if oldest is not None else records[0].timestamp)
            waiting.discard(source)
            reader.pause(source)
    return oldest
