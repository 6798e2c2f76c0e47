"""A past for an installation: conversations of the last weeks, written to Cassandra as the rows that history writes of such messages.

A hundred thousand of them through the log and the history sink would take longer than all that is measured; `tests/bench` compares the rows
with those of the sink. They are keys and values that nothing ever overwrites, so they are written in batches of several partitions, which a
node that is alone takes several times as fast.
"""

import asyncio
import itertools
import time
import zlib
from collections.abc import Callable, Sequence

import msgspec

from infra.bench.installation import Installation
from infra.bench.users import real_texts
from infra.cassandra.rows import BUCKET_MS, DAY_MS, HISTORY_PART, SHARDS, Row, Value
from infra.cassandra.session import Cassandra
from infra.simulator.freshen import ACCOUNT_DEFAULT
from schemas.events.inbound import InboundEvent, Person, RecordPosition
from schemas.ids import conversation_key, event_id

PAST_MS = 30 * DAY_MS
"""How far back the past goes; its conversations lie evenly over it."""

PIECES = 20
"""In so many pieces it is written."""

_FIRST_PHONE = 14_000_000_000
# The newest of it has ended when the run's own messages come.
_AGO_MS = 60_000
# Of more partitions in one batch the node warns.
_BATCH_ROWS = 10
_AT_ONCE = 8


def key_of(number: int) -> str:
    """Return the key of a conversation of the past; the oldest has the number 0."""
    return conversation_key(channel="wa", account=ACCOUNT_DEFAULT, contact=str(_FIRST_PHONE + number))


def time_of(number: int, *, conversations: int, now_ms: int) -> int:
    """Return when a conversation of the past was, in milliseconds since 1970."""
    return now_ms - _AGO_MS - PAST_MS * (conversations - number) // conversations


def event_of(number: int, text: str, *, at_ms: int) -> InboundEvent:
    """Return the message of a conversation as streams would have written it."""
    key = key_of(number)
    platform_id = f"wamid.past.{number}"
    return InboundEvent(
        id=event_id(key, platform_id),
        conversation=key,
        tenant="default",
        channel="whatsapp",
        account=ACCOUNT_DEFAULT,
        direction="in",
        kind="message",
        type="text",
        platform_id=platform_id,
        at=at_ms,
        received_at=at_ms,
        decided_at=at_ms,
        decision="stored",
        reason="past",
        text=text,
        person=Person(name="Felix", phone=str(_FIRST_PHONE + number)),
        raw=RecordPosition(topic="raw", partition=0, offset=number),
        payload=msgspec.Raw(msgspec.json.encode({"type": "text", "text": {"body": text}})),
    )


def rows_of(event: InboundEvent, log: RecordPosition) -> list[Row]:
    """Return the rows that history writes of such an event whose record stands at `log`, those first that lead to others."""
    tenant, conversation, time_ms = event.tenant, event.conversation, event.received_at
    part: dict[str, Value] = {"tenant": tenant, "day": time_ms // DAY_MS, "shard": zlib.crc32(conversation.encode()) % SHARDS}
    bucket = time_ms // BUCKET_MS
    message: dict[str, Value] = {"tenant": tenant, "conversation": conversation, "bucket": bucket, "time_ms": time_ms, "id": event.id}
    plain = ("direction", "kind", "type", "text", "channel", "account", "platform_id", "decision", "reason", "replies", "agent")
    message |= {name: getattr(event, name) for name in plain}
    message |= {"payload": bytes(event.payload), "waited_ms": event.waited_ms, "worked_ms": event.worked_ms}
    message |= {"platform_time_ms": event.at, "received_at_ms": event.received_at, "decided_at_ms": event.decided_at}
    message |= {f"person_{name}": getattr(event.person, name) for name in ("name", "phone", "user_id")}
    for prefix, at in (("raw", event.raw), ("log", log)):
        message |= {f"{prefix}_topic": at.topic, f"{prefix}_partition": at.partition, f"{prefix}_offset": at.offset}
    columns: dict[str, dict[str, Value]] = {
        "history_tenants": {"part": HISTORY_PART, "tenant": tenant},
        "active_days": part,
        "conversation_buckets": {"conversation": conversation, "tenant": tenant, "bucket": bucket},
        "contacts": {"contact": event.person.phone, "tenant": tenant, "conversation": conversation},
        "activity": part | {"time_ms": time_ms, "conversation": conversation},
        "messages": message,
    }
    return [Row(table, values, 1000 * time_ms) for table, values in columns.items()]


async def write_past(installation: Installation, progress: Callable[[int], None]) -> int:
    """Write it, telling how many of its PIECES are done; return the time, in milliseconds since 1970, that it is counted back from."""
    conversations = installation.plan.past_conversations
    now_ms = time.time_ns() // 1_000_000
    texts = itertools.cycle(real_texts())
    cassandra = await Cassandra.connect(installation.settings)
    keyspace = installation.settings.keyspace
    try:
        # What a crash would lose is written again: without the commit log it is there sooner.
        await cassandra.execute(f'ALTER KEYSPACE "{keyspace}" WITH durable_writes = false')
        for piece in range(PIECES):
            numbers = range(conversations * piece // PIECES, conversations * (piece + 1) // PIECES)
            rows: list[Row] = []
            for number in numbers:
                event = event_of(number, next(texts), at_ms=time_of(number, conversations=conversations, now_ms=now_ms))
                rows += rows_of(event, RecordPosition(topic="inbound", partition=0, offset=number))
            await _write(cassandra, _each_once(rows))
            progress(piece + 1)
        await cassandra.execute(f'ALTER KEYSPACE "{keyspace}" WITH durable_writes = true')
    finally:
        await cassandra.close()
    return now_ms


def _each_once(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without those that are keys alone and came before."""
    return list({(row.table, *(repr(value) for value in row.columns.values())): row for row in rows}.values())


async def _write(cassandra: Cassandra, rows: Sequence[Row]) -> None:
    batches = iter([rows[start : start + _BATCH_ROWS] for start in range(0, len(rows), _BATCH_ROWS)])

    async def one_by_one() -> None:
        for batch in batches:
            await cassandra.execute_batch([await cassandra.bind(*row.statement) for row in batch])

    await asyncio.gather(*(one_by_one() for _ in range(_AT_ONCE)))
