"""Floor: the Cassandra driver alone, writing unlogged batches of ten rows of one partition. Counts rows."""

import asyncio
import itertools
import time
from typing import Any

from cassandra.cluster import Cluster, Session
from cassandra.query import BatchStatement, BatchType

from infra.bench.floors.told import Work, do_as_told
from infra.cassandra.connection import security_options
from infra.settings import load_settings

ROWS = 10
_AT_ONCE = 32
_PATIENCE_S = 30.0
_TABLE = """CREATE TABLE IF NOT EXISTS {keyspace}.floor_rows (
    tenant text, conversation text, bucket bigint, time_ms bigint, id text, direction text, kind text, type text, text text,
    payload blob, channel text, account text, platform_id text, log_partition int, log_offset bigint,
    PRIMARY KEY ((tenant, conversation, bucket), time_ms, id))"""
_INSERT = """INSERT INTO {keyspace}.floor_rows (tenant, conversation, bucket, time_ms, id, direction, kind, type, text,
    payload, channel, account, platform_id, log_partition, log_offset) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def _session() -> tuple[Session, Any]:
    settings = load_settings()
    host, _, port = settings.cassandra.partition(",")[0].rpartition(":")
    patient = {"connect_timeout": _PATIENCE_S, "control_connection_timeout": _PATIENCE_S}
    session = Cluster([host], port=int(port), protocol_version=5, **patient, **security_options(settings)).connect()
    session.default_timeout = _PATIENCE_S
    session.execute(_TABLE.format(keyspace=settings.keyspace))
    return session, session.prepare(_INSERT.format(keyspace=settings.keyspace))


async def _open() -> Work:
    session, insert = await asyncio.to_thread(_session)
    numbers = itertools.count()
    return lambda seconds: asyncio.to_thread(_write, session, insert, numbers, seconds)


def _write(session: Session, insert: Any, numbers: "itertools.count[int]", seconds: float) -> int:
    """Write batches for so long, always so many under way, with callbacks and nothing of ours between."""
    until, count = time.perf_counter() + seconds, 0
    under_way: list[Any] = []
    while time.perf_counter() < until:
        under_way.append(session.execute_async(_batch(insert, next(numbers))))
        count += ROWS
        if len(under_way) >= _AT_ONCE:
            under_way.pop(0).result()
    for each in under_way:
        each.result()
    return count


def _batch(insert: Any, number: int) -> BatchStatement:
    batch = BatchStatement(BatchType.UNLOGGED)
    for row in range(ROWS):
        values = ("default", f"wa:1:{number % 200}", 1, number * ROWS + row, f"in_{number}_{row}", "in", "message", "text")
        text = f"{number} Is my order on its way?"
        batch.add(insert, (*values, text, b'{"text":{"body":"Is my order on its way?"}}', "whatsapp", "1", f"wamid.{number}", 1, number))
    return batch


if __name__ == "__main__":
    do_as_told(_open)
