"""Rows and how they are written: grouped by partition, one unlogged batch for each, with the time of the event as write timestamp.

The write timestamp decides which of two versions of a row counts, whatever order they come in; so a replay ends with the same rows.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from infra.cassandra.session import Cassandra, Statement

Value = str | int | bytes | list[str]

DAY_MS = 86_400_000
BUCKET_MS = 10 * DAY_MS
SHARDS = 8
HISTORY_PART = "all"  # the one partition of history_tenants

PARTITION_KEYS: Mapping[str, tuple[str, ...]] = {
    "messages": ("tenant", "conversation", "bucket"),
    "sends": ("id",),
    "statuses": ("channel", "platform_id"),
    "send_platform_ids": ("send",),
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


@dataclass(frozen=True, slots=True)
class Row:
    """One row to write: its table, its columns (never null) and its write timestamp in microseconds.

    It is kept for `ttl_s` seconds; 0: for ever.
    """

    table: str
    columns: dict[str, Value]
    write_us: int
    ttl_s: int = 0

    @property
    def partition(self) -> tuple[Value, ...]:
        """What rows that can be written together have in common."""
        return (self.table, *(self.columns[name] for name in PARTITION_KEYS[self.table]))

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return 8 * len(self.columns) + sum(len(value) for value in self.columns.values() if isinstance(value, (str, bytes)))

    @property
    def statement(self) -> Statement:
        """The CQL that writes it, and its values."""
        cql = _insert(self.table, tuple(self.columns))
        if self.ttl_s:
            return f"{cql} AND TTL ?", (*self.columns.values(), self.write_us, self.ttl_s)
        return cql, (*self.columns.values(), self.write_us)


@lru_cache(maxsize=256)
def _insert(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO @.{table} ({', '.join(columns)}) VALUES ({marks}) USING TIMESTAMP ?"  # noqa: S608  # names from our own code


def batches(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows in groups of one partition each, in their order, none of them too large for one batch."""
    groups: dict[tuple[Value, ...], list[list[Row]]] = defaultdict(lambda: [[]])
    sizes: dict[tuple[Value, ...], int] = defaultdict(int)
    for row in rows:
        key = row.partition
        size = row.size
        group = groups[key][-1]
        if group and (len(group) >= _BATCH_ROWS_MAX or sizes[key] + size > _BATCH_BYTES_MAX):
            groups[key].append([])
            sizes[key] = 0
        groups[key][-1].append(row)
        sizes[key] += size
    return [group for parts in groups.values() for group in parts]


async def write_rows(cassandra: Cassandra, rows: Iterable[Row]) -> None:
    """Write all rows, partitions side by side; an error of one is raised after all have ended, and all may be written again."""
    groups = batches(rows)
    if len(groups) == 1:
        await cassandra.execute_batch([row.statement for row in groups[0]])
        return
    writes = [cassandra.execute_batch([row.statement for row in group]) for group in groups]
    for outcome in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
