"""Rows and how they are written: many together in unlogged batches, each with the time of its event as write timestamp.

The write timestamp decides which of two versions of a row counts, whatever order they come in; so a replay ends with the same rows.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from infra.cassandra.binding import Limits, Write
from infra.cassandra.session import Cassandra

Value = str | int | bytes | list[str]

DAY_MS = 86_400_000
BUCKET_MS = 10 * DAY_MS
SHARDS = 8
HISTORY_PART = "all"  # the one partition of history_tenants

PARTITION_KEYS: Mapping[str, tuple[str, ...]] = {
    "messages": ("tenant", "conversation", "bucket"),
    "sends": ("id",),
    "statuses": ("channel", "platform_id"),
    "platform_ids": ("account", "send"),
    "unknown_sends": ("tenant", "day"),
    "unknown_send_days": ("part",),
    "resends": ("send",),
    "conversation_buckets": ("conversation",),
    "activity": ("tenant", "day", "shard"),
    "active_days": ("tenant",),
    "contacts": ("contact",),
    "history_tenants": ("part",),
    "aliases": ("alias",),
    "members": ("conversation",),
    "processing_errors": ("id",),
    "processing_errors_by_time": ("part", "bucket"),
    "processing_error_buckets": ("part",),
}
"""Which columns of a table name the partition."""

_BATCH_ROWS_MAX = 50
_BATCH_BYTES_MAX = 512 * 1024

Partition = tuple[Value, ...]


class Row(msgspec.Struct, frozen=True):
    """One row to write: its table, its columns (never null) and its write timestamp in microseconds.

    It is kept for `ttl_s` seconds; 0: for ever.
    """

    table: str
    columns: dict[str, Value]
    write_us: int
    ttl_s: int = 0

    @property
    def partition(self) -> Partition:
        """The key of its partition. Rows whose keys are equal are one write to the database, whatever their tables."""
        return tuple(map(self.columns.__getitem__, PARTITION_KEYS[self.table]))

    @property
    def statement(self) -> tuple[str, tuple[Value, ...]]:
        """The CQL that writes it, and its values."""
        cql = _insert(self.table, tuple(self.columns))
        if self.ttl_s:
            return f"{cql} AND TTL ?", (*self.columns.values(), self.write_us, self.ttl_s)
        return cql, (*self.columns.values(), self.write_us)


@lru_cache(maxsize=256)
def _insert(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO @.{table} ({', '.join(columns)}) VALUES ({marks}) USING TIMESTAMP ?"  # noqa: S608  # names from our own code


@dataclass(slots=True)
class _Request:
    """Writes that are sent together."""

    writes: list[Write]
    size: int
    partitions: int = 1


def requests(writes: Iterable[tuple[Partition, Write]], nodes_of: Callable[[Write], Hashable], limits: Limits) -> list[list[Write]]:
    """Return the writes in groups that are sent together, each to the partition that stands before it.

    Writes to one partition are together, in their order, as far as that is not too large. Small ones to several partitions are together
    where the same nodes keep these, for then it is no detour for any of them.
    """
    found: list[_Request] = []
    shared: dict[Hashable, _Request] = {}
    for part in _parts(writes):
        nodes = nodes_of(part.writes[0]) if part.size < limits.size else None
        request = shared.get(nodes)
        if request is not None and request.size + part.size <= limits.size and request.partitions < limits.partitions:
            request.writes += part.writes
            request.size += part.size
            request.partitions += 1
            continue
        found.append(part)
        if nodes is not None:
            shared[nodes] = part
    return [request.writes for request in found]


def _parts(writes: Iterable[tuple[Partition, Write]]) -> Iterator[_Request]:
    """Yield the writes of each partition, as many together as one request may have."""
    open_parts: dict[Partition, _Request] = {}
    for partition, write in writes:
        part = open_parts.get(partition)
        if part is not None and len(part.writes) < _BATCH_ROWS_MAX and part.size + write.size <= _BATCH_BYTES_MAX:
            part.writes.append(write)
            part.size += write.size
            continue
        if part is not None:
            yield part
        open_parts[partition] = _Request([write], write.size)
    yield from open_parts.values()


async def write_rows(cassandra: Cassandra, rows: Iterable[Row]) -> None:
    """Write all rows, requests side by side; an error of one is raised after all have ended, and all may be written again."""
    writes = [(row.partition, await cassandra.bind(*row.statement)) for row in rows]
    found = requests(writes, cassandra.nodes_of, await cassandra.limits())
    if len(found) == 1:
        await cassandra.execute_batch(found[0])
        return
    for outcome in await asyncio.gather(*map(cassandra.execute_batch, found), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
