"""The streams' table under Faust: changelog first and awaited, then the local store.

Faust's own write sends the changelog record without waiting and warns when it is lost, so the local store could run ahead of what another
worker would restore. Here the changelog record is acknowledged before the local write, and restoring keeps, of two rows of one
conversation, the one with the higher offset done: a paused worker's late write is not fenced by the log (infra/decisions/0003-table.md).
"""

import logging
from collections.abc import Sequence

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
_KEYS = "rocksdb.estimate-num-keys"


class NewestRowTable(faust.Table):  # type: ignore[misc]  # Faust's types are not followed
    """A Faust table that restores, for each key, the row with the highest offset done."""

    logger = logging.getLogger("faust.tables")

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
        self.data.set_persisted_offset(self._source(partition), records[-1].offset)

    def _source(self, partition: int) -> faust.types.TP:
        return faust.types.TP(self.changelog_topic.get_topic_name(), partition)


class ConversationTable:
    """Reads and writes rows by partition and key; values are bytes."""

    def __init__(self, table: NewestRowTable, producer: Producer) -> None:
        self._table = table
        self._producer = producer
        self._since_persisted: dict[int, int] = {}
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
        # Where to go on restoring after a restart. Acknowledgements may be handled out of order, so it stays well behind the newest.
        count = self._since_persisted.get(partition, 0) + 1
        if count >= _PERSIST_EVERY:
            count = 0
            self._persist(partition, offset)
        self._since_persisted[partition] = count

    def _keys(self) -> int:
        return sum(store.property_int_value(_KEYS) or 0 for store in self._table.data._dbs.values())  # noqa: SLF001  # see above

    def _persist(self, partition: int, offset: int) -> None:
        source = faust.types.TP(self._table.changelog_topic.get_topic_name(), partition)
        behind = offset - 2 * _PERSIST_EVERY
        if behind > (self._table.data.persisted_offset(source) or 0):
            self._table.data.set_persisted_offset(source, behind)
