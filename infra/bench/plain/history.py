"""Plain: a consumer that writes a row for each message, answer and status, and where its conversation stands, as many at once as come."""

import time
from collections.abc import Iterator
from typing import Any

import orjson
from cassandra.cluster import Cluster, Session
from cassandra.concurrent import execute_concurrent
from confluent_kafka import Consumer

from infra.bench.plain import HISTORY, INBOUND, READS, STATUSES
from infra.cassandra.connection import security_options
from infra.settings import Settings, load_settings

_AT_ONCE, _WAIT_S, _PATIENCE_S = 100, 0.2, 30.0
_TABLES = (
    """CREATE TABLE IF NOT EXISTS {keyspace}.plain_messages (conversation text, time_ms bigint, id text, direction text, text text,
    payload blob, PRIMARY KEY (conversation, time_ms, id))""",
    "CREATE TABLE IF NOT EXISTS {keyspace}.plain_conversations (conversation text PRIMARY KEY, time_ms bigint, text text)",
    "CREATE TABLE IF NOT EXISTS {keyspace}.plain_statuses (id text, status text, time_ms bigint, payload blob, PRIMARY KEY (id, status))",
)
_INSERTS = {
    "messages": "INSERT INTO {keyspace}.plain_messages (conversation, time_ms, id, direction, text, payload) VALUES (?, ?, ?, ?, ?, ?)",
    "conversations": "INSERT INTO {keyspace}.plain_conversations (conversation, time_ms, text) VALUES (?, ?, ?)",
    "statuses": "INSERT INTO {keyspace}.plain_statuses (id, status, time_ms, payload) VALUES (?, ?, ?, ?)",
}


def _session(settings: Settings) -> Session:
    host, _, port = settings.cassandra.partition(",")[0].rpartition(":")
    patient = {"connect_timeout": _PATIENCE_S, "control_connection_timeout": _PATIENCE_S}
    session = Cluster([host], port=int(port), protocol_version=5, **patient, **security_options(settings)).connect()
    session.default_timeout = _PATIENCE_S
    for table in _TABLES:
        session.execute(table.format(keyspace=settings.keyspace))
    return session


def _run() -> None:
    settings = load_settings()
    session = _session(settings)
    inserts = {name: session.prepare(insert.format(keyspace=settings.keyspace)) for name, insert in _INSERTS.items()}
    group = {"group.id": settings.topic_prefix + HISTORY, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": settings.kafka} | group)
    consumer.subscribe([settings.topic_prefix + topic for topic in READS[HISTORY]])
    while True:
        records = [each for each in consumer.consume(_AT_ONCE, timeout=_WAIT_S) if each.error() is None]
        if records:
            execute_concurrent(session, [row for each in records for row in _rows(each, settings.topic_prefix, inserts)])


def _rows(record: Any, prefix: str, inserts: dict[str, Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    value, topic = orjson.loads(record.value()), record.topic().removeprefix(prefix)
    at_ms = time.time_ns() // 1_000_000
    if topic == STATUSES:
        yield inserts["statuses"], (value["id"], value["status"], at_ms, record.value())
        return
    came_in = topic == INBOUND
    who, text = (value["from"], value["text"]["body"]) if came_in else (value["to"], value["text"])
    yield inserts["messages"], (who, at_ms, value["id"], "in" if came_in else "out", text, record.value())
    yield inserts["conversations"], (who, at_ms, text)


if __name__ == "__main__":
    _run()
