"""What Cassandra itself measures: how often and how fast the tables of a keyspace are read and written, and how large they are.

The figures are those of the node that is asked, since it was started; its percentiles fade with time.
"""

import time

import msgspec

from infra.cassandra.session import Cassandra, Row

OPERATIONS = ("read", "scan", "write")
_SELECT_LATENCY = "SELECT keyspace_name, table_name, count, per_second, p50th_ms, p99th_ms, max_ms FROM system_views.local_{}_latency"
_SELECT_SIZE = "SELECT keyspace_name, table_name, mebibytes FROM system_views.disk_usage"
_PROBE = "SELECT release_version FROM system.local"


class Operation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How often a table was read (`read`: one partition, `scan`: several) or written, and how long that took in milliseconds."""

    table: str
    operation: str
    count: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """All of it: what a query took there and back in milliseconds, operations that happened, and mebibytes on disk by table."""

    latency_ms: float
    operations: list[Operation]
    mebibytes: dict[str, int]


async def answer_ms(cassandra: Cassandra) -> float:
    """Return the milliseconds that the smallest query takes; CassandraAwayError if there is no answer."""
    begun = time.perf_counter()
    await cassandra.execute(_PROBE)
    return round(1000 * (time.perf_counter() - begun), 3)


async def read_statistics(cassandra: Cassandra, keyspace: str) -> Statistics:
    """Return what the node says of the tables of a keyspace; CassandraAwayError if it does not answer."""
    latency_ms = await answer_ms(cassandra)
    operations: list[Operation] = []
    for name in OPERATIONS:
        rows = await cassandra.execute(_SELECT_LATENCY.format(name))
        operations += [_operation(name, row) for row in rows if row["keyspace_name"] == keyspace and row["count"]]
    sizes = {row["table_name"]: row["mebibytes"] for row in await cassandra.execute(_SELECT_SIZE) if row["keyspace_name"] == keyspace}
    return Statistics(latency_ms=latency_ms, operations=operations, mebibytes=sizes)


def _operation(name: str, row: Row) -> Operation:
    return Operation(
        table=row["table_name"],
        operation=name,
        count=row["count"],
        per_second=round(row["per_second"], 3),
        p50_ms=round(row["p50th_ms"], 3),
        p99_ms=round(row["p99th_ms"], 3),
        max_ms=round(row["max_ms"], 3),
    )
