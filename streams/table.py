"""The streams' table under Faust: changelog first and awaited, then the local store.

Faust's own write sends the changelog record without waiting and warns when it is lost, so the local store could run ahead of what another
worker would restore. Here the changelog record is acknowledged before the local write, and restoring keeps, of two rows of one
conversation, the one with the higher offset done: a paused worker's late write is not fenced by the log (infra/decisions/0003-table.md).
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import faust

from infra.fault_points import point
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.metrics import TABLE_KEYS, TABLE_READS, TABLE_WRITES
from schemas.topics import CONVERSATIONS_CHANGELOG
from streams.rows import replaces

# Faust's defaults are for one large table: per partition a cache of 2 GiB and three buffers of 64 MiB. What a small cache does not have is
# in the system's, and a large one is filled for an hour before the memory of a worker stays what it is.
STORE_OPTIONS = {"block_cache_size": 1 << 20, "write_buffer_size": 4 << 20, "max_write_buffer_number": 2, "bloom_filter_size": 10}
_PERSIST_EVERY = 64
_GAP_MAX = 10_000
_KEYS = "rocksdb.estimate-num-keys"


class _Whole:
    """Which records of a changelog partition the local store has: all below `end`, and some above, acknowledged out of order.

    Where one stays out somebody else has written it: what comes above that is not known to be whole before it is restored.
    """

    def __init__(self, end: int) -> None:
        self.end = self.persisted = end
        self._above: set[int] = set()

    def add(self, offset: int) -> None:
        """Note a record that was written to the store."""
        if offset > self.end:
            if len(self._above) < _GAP_MAX:
                self._above.add(offset)
            return
        self.end += offset == self.end
        while self.end in self._above:
            self._above.discard(self.end)
            self.end += 1


class NewestRowTable(faust.Table):  # type: ignore[misc]  # Faust's types are not followed
    """A Faust table that restores, for each key, the row with the highest offset done."""

    logger = logging.getLogger("faust.tables")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.outdone: set[tuple[int, bytes]] = set()
        """Partition and key of rows that an older one follows in the changelog, where compaction would keep that one."""
        self._whole: dict[int, _Whole] = {}

    def next_to_restore(self, partition: int) -> int:
        """Return the offset of the first changelog record that the local store may not have."""
        persisted = self.data.persisted_offset(self._source(partition))
        return 0 if persisted is None else int(persisted) + 1

    def restore(self, partition: int, records: Sequence[Record]) -> None:
        """Write changelog records of a partition to the local store, leaving out rows that are older than what is there."""
        store = self.data._db_for_partition(partition)  # noqa: SLF001  # the store offers no read by partition
        for record in records:
            if not record.value:  # a tombstone; rows are never empty
                store.delete(record.key)
            elif replaces(record.value, store.get(record.key)):
                store.put(record.key, record.value)
            else:
                self.outdone.add((partition, record.key))
                continue
            self.outdone.discard((partition, record.key))
        self.data.set_persisted_offset(self._source(partition), records[-1].offset)

    def restored(self, partition: int, end: int) -> None:
        """Note that the local store has all of a partition's changelog below `end`."""
        self._whole[partition] = _Whole(end)

    def written(self, partition: int, offset: int) -> None:
        """Note that a record of the changelog is in the local store, and now and then where to go on restoring after a restart.

        That is where it is whole: a paused worker's late row comes behind its successor's, which this store has not got.
        """
        whole = self._whole.get(partition)
        if whole is None:
            return
        whole.add(offset)
        if whole.end - whole.persisted >= _PERSIST_EVERY:
            whole.persisted = whole.end
            self.data.set_persisted_offset(self._source(partition), whole.end - 1)

    def _source(self, partition: int) -> faust.types.TP:
        return faust.types.TP(self.changelog_topic.get_topic_name(), partition)


class ConversationTable:
    """Reads and writes rows by partition and key; values are bytes."""

    def __init__(self, table: NewestRowTable, producer: Producer) -> None:
        self._table = table
        self._producer = producer
        self._hits, self._misses = (TABLE_READS.labels(table.name, result) for result in ("hit", "miss"))
        self._writes = TABLE_WRITES.labels(table.name)
        TABLE_KEYS.labels(table.name).set_function(self._keys)

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a row from the local store."""
        value: bytes | None = self._table.data._db_for_partition(partition).get(key)  # noqa: SLF001  # see above
        (self._misses if value is None else self._hits).inc()
        return value

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a row, or with None forget it: first the log, acknowledged, then the local store. ProduceError if the log does not."""
        offset = await self._producer.send(CONVERSATIONS_CHANGELOG.name, key=key, value=value, partition=partition)
        point("streams.row_logged")
        store = self._table.data._db_for_partition(partition)  # noqa: SLF001  # see above
        if value is None:
            store.delete(key)
        else:
            store.put(key, value)
        self._writes.inc()
        self._table.written(partition, offset)

    async def write_outdone(self, partitions: Collection[int]) -> None:
        """Write again what restoring these partitions found followed by older rows; ProduceError if the log does not take it."""
        outdone = self._table.outdone
        outdone.difference_update([each for each in outdone if each[0] not in partitions])  # they went elsewhere before they were restored
        while outdone:
            partition, key = next(iter(outdone))
            await self.put(partition, key, self._table.data._db_for_partition(partition).get(key))  # noqa: SLF001  # see above
            outdone.discard((partition, key))

    def _keys(self) -> int:
        return sum(store.property_int_value(_KEYS) or 0 for store in self._table.data._dbs.values())  # noqa: SLF001  # see above
