"""A record of any topic, understood as far as its bytes can be: the event, its JSON, and what may be shown of it. Pure."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from infra.clock import iso
from infra.kafka.record import Record
from schemas.codec import Headers, decode
from schemas.events.audit import AuditEvent
from schemas.events.canary import CanaryEvent
from schemas.events.config import Account, Agent, Tenant
from schemas.events.dead_letter import read_dead_letter
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.events.routed_part import RoutedPart
from schemas.events.sent import SentEvent
from schemas.events.webhook_part import WebhookPart
from schemas.topics import ACCOUNTS, AGENTS, AUDIT, CONFIG_TOPICS, DEAD_LETTERS, INBOUND, LEDGER, OUTBOUND, RAW, SENT, STATUS, TENANTS

EVENTS: dict[str, Any] = {
    RAW.name: WebhookPart | RoutedPart | CanaryEvent,
    STATUS.name: WebhookPart,
    INBOUND.name: InboundEvent | LinkedEvent,
    **{topic.name: OutboundEvent for topic in OUTBOUND.values()},
    OUTBOUND["high"].name: OutboundEvent | CanaryEvent,
    SENT.name: SentEvent | CanaryEvent,
    LEDGER.name: PlannedEvent,
    TENANTS.name: Tenant,
    ACCOUNTS.name: Account,
    AGENTS.name: Agent,
    AUDIT.name: AuditEvent,
}
"""What the records of each topic are; the others hold any bytes, or what is a stage's own."""

SECRET_TOPICS = frozenset({ACCOUNTS.name, TENANTS.name})
"""Topics whose records hold secrets: their bytes are not shown as they are."""

_SECRETS: dict[type[msgspec.Struct], tuple[str, ...]] = {Account: ("token", "app_secret"), Tenant: ("key",)}
_MASK = "***"
_DELETABLE = frozenset(topic.name for topic in CONFIG_TOPICS)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record with its event (None where it has none, or is not it), its JSON, and why it cannot be read (empty: it can).

    Secrets are masked in both. `is_deletion`: it deletes what stood under its key.
    """

    record: Record
    event: msgspec.Struct | None = None
    content: Any = None
    problem: str = ""
    is_deletion: bool = False


def decoded(record: Record) -> Decoded:
    """Return what a record says; never raises."""
    if not record.value and record.topic in _DELETABLE:
        return Decoded(record, is_deletion=True)
    try:
        event = _event(record)
        content = json.loads(record.value)
    except (ValueError, RecursionError) as error:
        return Decoded(record, problem=str(error) or type(error).__name__)
    secrets = _SECRETS.get(type(event), ()) if event is not None else ()
    if event is not None and secrets:
        held = {name: _MASK for name in secrets if getattr(event, name)}
        return Decoded(record, event=msgspec.structs.replace(event, **held), content=content | held)
    return Decoded(record, event=event, content=content)


def as_json(found: Decoded) -> dict[str, Any]:
    """Return all of a record as JSON can hold it: `event` where it can be read, else the reason and the bytes in base64."""
    record = found.record
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": iso(record.timestamp_ms),
        "key": readable(record.key),
        "headers": _by_name(record.headers),
        "size": len(record.value),
    }
    if found.is_deletion:
        return shown | {"event": None, "deleted": True}
    if not found.problem:
        return shown | {"event": found.content}
    held = {} if record.topic in SECRET_TOPICS else {"base64": base64.b64encode(record.value).decode()}
    return shown | {"event": None, "undecodable": found.problem} | held


def readable(value: bytes) -> str:
    """Return bytes as text; what is no UTF-8 is written as numbers."""
    return value.decode("utf-8", "backslashreplace")


def _event(record: Record) -> msgspec.Struct | None:
    """Return the event that the record holds, None where its topic's are not ours to know; DecodeError if it is not one."""
    known = EVENTS.get(record.topic)
    if record.topic == DEAD_LETTERS.name:
        # The bytes are another topic's, and often why they are here is that they cannot be read.
        known = EVENTS.get(read_dead_letter(record.headers).topic)
    return decode(record.value, known) if known is not None else None


def _by_name(headers: Headers) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in headers:
        text = readable(value or b"")
        if name not in shown:
            shown[name] = text
        elif isinstance(shown[name], list):
            shown[name].append(text)
        else:
            shown[name] = [shown[name], text]
    return shown
