"""Rows of history out of records of [inbound], [outbound-*], [sent] and [status]: pure functions.

An event always gives the same rows, and a row's write timestamp comes from its event, so records may come twice, late and in any order.
Of an inbound item the latest decision counts, of a send's plan the first record, of its text the one in [sent].
"""

import zlib
from collections.abc import Callable
from typing import Any

from infra.cassandra.reading import EVERY_TENANT
from infra.cassandra.rows import BUCKET_MS, DAY_MS, HISTORY_PART, SHARDS, Row, Value
from infra.cassandra.sends import RESEND, UNKNOWN, resend_row
from infra.kafka.record import Record
from schemas.channels import CHANNELS
from schemas.channels.base import StatusUpdate
from schemas.codec import DecodeError, decode
from schemas.events.canary import is_canary
from schemas.events.inbound import InboundEvent, RecordPosition
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.events.webhook_part import WebhookPart
from schemas.ids import NOBODY, account_of_key, split_conversation_key
from schemas.message_words import described
from schemas.topics import INBOUND, OUTBOUND, SENT, STATUS

# The year 9999: what a platform claims as its time must stay a date that can be shown.
_TIME_MS_MAX = 253_402_300_799_999
_INT_MAX, _BIGINT_MAX = (1 << 31) - 1, (1 << 63) - 1
# Write timestamps of rows of which the first record counts fall as time goes on, and stay below any clock's.
_FIRST_COUNTS_US = 3_000_000_000_000_000
_HISTORY_KIND = "history"
# Cassandra takes keys of 64 KiB; no platform's id comes near this.
_NAME_LENGTH_MAX = 1_000
_IN_INBOUND: Any = InboundEvent | LinkedEvent

INDEX_TABLES = frozenset(
    {"conversation_buckets", "activity", "active_days", "contacts", "history_tenants", "unknown_sends", "unknown_send_days", "members"}
)
"""Written before the messages they lead to, so that no message is there that cannot be found."""

WRITTEN_ONCE = frozenset({"conversation_buckets", "active_days", "contacts", "history_tenants", "platform_ids", "unknown_send_days"})
"""Tables whose rows are keys alone: a process need not write the same one again."""


def history_rows(record: Record) -> list[Row]:
    """Return the rows that a record leads to, none for a canary; DecodeError if it is not the event its topic holds."""
    if is_canary(record.key):
        return []
    reader = _READERS.get(record.topic)
    if reader is None:
        raise DecodeError(f"topic {record.topic!r} is not read by history")
    try:
        return reader(record)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"{record.topic}: {error}") from error


def inbound_rows(record: Record) -> list[Row]:
    """Return the rows of a record of [inbound]."""
    event = decode(record.value, _IN_INBOUND)
    if isinstance(event, LinkedEvent):
        return linked_rows(event)
    # Old messages that a platform hands over in bulk belong to their own time, all others to when they reached us.
    time_ms = _time(min(event.at, event.received_at) if event.kind == _HISTORY_KIND else event.received_at)
    message = _message_key(event.tenant, event.conversation, time_ms, event.id) | {
        "direction": event.direction,
        "kind": event.kind,
        "type": event.type,
        "text": _text(event.text),
        "payload": bytes(event.payload),
        "channel": event.channel,
        "account": event.account,
        "platform_id": _name(event.platform_id),
        "platform_time_ms": _time(event.at),
        "received_at_ms": _time(event.received_at),
        "person_name": _text(event.person.name),
        "person_phone": _text(event.person.phone),
        "person_user_id": _text(event.person.user_id),
        "decided_at_ms": _time(event.decided_at),
        "decision": event.decision,
        "reason": _text(event.reason),
        "replies": event.replies,
        "waited_ms": event.waited_ms,
        "worked_ms": event.worked_ms,
        "agent": event.agent,
        **_raw(event.raw),
        **_log(record),
    }
    write_us = 1000 * _time(event.decided_at)
    return [
        *_index_rows(event.tenant, event.conversation, time_ms, also=(event.person.phone, event.person.user_id)),
        Row("messages", message, write_us),
    ]


def linked_rows(event: LinkedEvent) -> list[Row]:
    """Return the rows that say where a key leads."""
    at_us = 1000 * _time(event.at)
    alias: dict[str, Value] = {"alias": event.alias, "conversation": event.conversation}
    if not event.is_joined:
        return [Row("aliases", alias, at_us)]
    member: dict[str, Value] = {"conversation": event.conversation, "member": event.alias}
    return [Row("members", member, at_us), Row("aliases", alias | {"joined": event.conversation}, at_us)]


def outbound_rows(record: Record) -> list[Row]:
    """Return the rows of a record of [outbound-*]."""
    event = decode(record.value, OutboundEvent)
    time_ms = _time(event.created_at)
    kind, text = described(event.message)
    shared: dict[str, Value] = {
        "channel": event.channel,
        "account": event.account,
        "priority": event.priority,
        "recipient": _text(event.to),
        "cause": _text(event.cause),
        "step": event.step,
        "agent": event.agent,
    }
    message = _message_key(event.tenant, event.conversation, time_ms, event.id) | shared
    message |= {"direction": "out", "kind": "send", "type": kind, "text": text, "payload": bytes(event.message)}
    message |= _log(record)
    if event.raw is not None:
        message |= _raw(event.raw)
    send: dict[str, Value] = {"id": event.id, "tenant": event.tenant, "conversation": event.conversation, "created_at_ms": time_ms}
    send |= shared | {"recipient_kind": _text(event.to_kind)}
    rows = [
        *_index_rows(event.tenant, event.conversation, time_ms),
        Row("messages", message, 1000 * time_ms),
        Row("sends", send, _FIRST_COUNTS_US - 1000 * time_ms),
    ]
    if event.step == RESEND:
        rows.append(resend_row(send=_name(event.cause) or NOBODY, resent_as=event.id, time_ms=time_ms))
    return rows


def sent_rows(record: Record) -> list[Row]:
    """Return the rows of a record of [sent]."""
    event = decode(record.value, SentEvent)
    time_ms, at_ms = _time(event.created_at), _time(event.at)
    kind, text = described(event.message)
    outcome: dict[str, Value] = {
        "channel": event.channel,
        "account": event.account,
        "outcome": event.outcome,
        "platform_id": _name(event.platform_id),
        "attempts": min(event.attempts, _INT_MAX),
        "http_status": min(event.http_status, _INT_MAX),
        "error_code": min(event.error_code, _BIGINT_MAX),
        "error": _text(event.error),
    }
    message = _message_key(event.tenant, event.conversation, time_ms, event.id) | outcome
    message |= {"direction": "out", "kind": "send", "type": kind, "text": text, "payload": bytes(event.message)}
    message |= {"agent": event.agent, "cause": _text(event.cause)}
    message |= {"sent_at_ms": at_ms, "sent_partition": record.partition, "sent_offset": record.offset}
    message |= {"sent_waited_ms": event.waited_ms, "sent_worked_ms": event.worked_ms}
    send: dict[str, Value] = {"id": event.id, "tenant": event.tenant, "conversation": event.conversation}
    send |= outcome | {"sent_created_at_ms": time_ms, "at_ms": at_ms}
    # Above the plan's timestamp also where both have the same millisecond: the text that left counts.
    write_us = 1000 * max(time_ms, at_ms) + 1
    return [
        *(_unknown_rows(event.tenant, event.id, at_ms) if event.outcome == UNKNOWN else ()),
        Row("messages", message, write_us),
        Row("sends", send, write_us),
        *(_platform_id_rows(event.conversation, event.id, event.platform_id, at_ms)),
    ]


def status_rows(record: Record) -> list[Row]:
    """Return the rows of a record of [status]."""
    part = decode(record.value, WebhookPart)
    channel = CHANNELS.get(part.channel)
    if channel is None:
        raise DecodeError(f"there is no channel {part.channel!r}")
    received_at_ms = _time(part.received_at)
    return [row for update in channel.parse_statuses(part) for row in _status(update, part.channel, received_at_ms, record)]


def _status(update: StatusUpdate, channel: str, received_at_ms: int, record: Record) -> list[Row]:
    status: dict[str, Value] = {
        "channel": channel,
        "platform_id": _name(update.platform_id) or NOBODY,
        "participant": _name(update.participant),
        "status": _name(update.status),
        "at_ms": _time(update.at_ms),
        "recipient": _text(update.recipient),
        "send": _text(update.send),
        "error_code": max(-_BIGINT_MAX, min(update.error_code, _BIGINT_MAX)),
        "error": _text(update.error),
        "payload": bytes(update.payload),
        "received_at_ms": received_at_ms,
        **_raw(record),
    }
    # The account that ingress has found the signature to be of: what another one's status says of a send counts for nothing.
    named = _platform_id_rows(record.key.decode("utf-8", "replace"), update.send, update.platform_id, received_at_ms)
    return [Row("statuses", status, 1000 * received_at_ms), *named]


def _platform_id_rows(conversation: str, send: str, platform_id: str, time_ms: int) -> list[Row]:
    """Return the row that names a platform id of a send; from answers and statuses alike, so that a second id is never hidden."""
    account = account_of_key(conversation)
    if not send or not platform_id or not account:
        return []
    return [Row("platform_ids", {"account": account, "send": send, "platform_id": _name(platform_id)}, 1000 * time_ms)]


def _unknown_rows(tenant: str, send: str, at_ms: int) -> list[Row]:
    day, write_us = at_ms // DAY_MS, 1000 * at_ms
    return [
        *(Row("unknown_send_days", {"part": part, "day": day, "tenant": tenant}, write_us) for part in (EVERY_TENANT, tenant)),
        Row("unknown_sends", {"tenant": tenant, "day": day, "at_ms": at_ms, "id": send}, write_us),
    ]


def _index_rows(tenant: str, conversation: str, time_ms: int, also: tuple[str, ...] = ()) -> list[Row]:
    write_us = 1000 * time_ms
    day = time_ms // DAY_MS
    shard = zlib.crc32(conversation.encode()) % SHARDS
    contact = split_conversation_key(conversation)[2]
    contacts = {_name(name) for name in (contact, *also)} - {"", NOBODY}
    return [
        Row("history_tenants", {"part": HISTORY_PART, "tenant": tenant}, write_us),
        Row("active_days", {"tenant": tenant, "day": day, "shard": shard}, write_us),
        Row("conversation_buckets", {"conversation": conversation, "tenant": tenant, "bucket": time_ms // BUCKET_MS}, write_us),
        *(Row("contacts", {"contact": name, "tenant": tenant, "conversation": conversation}, write_us) for name in sorted(contacts)),
        Row("activity", {"tenant": tenant, "day": day, "shard": shard, "time_ms": time_ms, "conversation": conversation}, write_us),
    ]


def _message_key(tenant: str, conversation: str, time_ms: int, message_id: str) -> dict[str, Value]:
    return {"tenant": tenant, "conversation": conversation, "bucket": time_ms // BUCKET_MS, "time_ms": time_ms, "id": message_id}


def _raw(position: RecordPosition | Record) -> dict[str, Value]:
    return {"raw_topic": position.topic, "raw_partition": position.partition, "raw_offset": position.offset}


def _log(record: Record) -> dict[str, Value]:
    return {"log_topic": record.topic, "log_partition": record.partition, "log_offset": record.offset}


def _time(time_ms: int) -> int:
    return max(0, min(time_ms, _TIME_MS_MAX))


def _text(text: str) -> str:
    """Return the text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _name(text: str) -> str:
    """Return a text that comes from outside and is part of a key."""
    return _text(text[:_NAME_LENGTH_MAX])


_READERS: dict[str, Callable[[Record], list[Row]]] = {
    INBOUND.name: inbound_rows,
    SENT.name: sent_rows,
    STATUS.name: status_rows,
    **{topic.name: outbound_rows for topic in OUTBOUND.values()},
}
