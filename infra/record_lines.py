"""A record of any topic as one line of text: when, where it stands, whose it is, and what matters of what it says. Pure."""

import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import msgspec

from infra.clock import iso
from infra.decoded import SECRET_TOPICS, Decoded, readable
from infra.kafka.record import Record
from infra.terminal import harmless
from schemas.channels import CHANNELS
from schemas.channels.base import Item, StatusUpdate
from schemas.events.canary import CanaryEvent
from schemas.events.config import Account, Agent, Tenant
from schemas.events.dead_letter import DeadLetter, read_dead_letter, read_redrive
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.events.routed_part import RoutedPart
from schemas.events.sent import SentEvent
from schemas.events.webhook_part import WebhookPart
from schemas.message_words import described
from schemas.topics import DEAD_LETTERS, STATUS

_TEXT_LENGTH_MAX = 300
_ITEMS_SHOWN = 3
_PLACE_WIDTH = 20
_DIM, _BOLD, _RED, _YELLOW, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
_WRONG = frozenset({"rejected", "failed"})
_OPEN = frozenset({"unknown", "planned"})


def record_line(found: Decoded, *, colour: bool = False) -> str:
    """Return the line; nothing in it is a control character but the colours."""
    record = found.record
    place = f"{record.topic}/{record.partition}/{record.offset}"
    parts = [
        _painted(iso(record.timestamp_ms).replace("T", " ").rstrip("Z"), _DIM if colour else ""),
        _painted(f"{place:<{_PLACE_WIDTH}}", _DIM if colour else ""),
        _painted(harmless(readable(record.key)) or "-", _BOLD if colour else ""),
        _painted(summary(found), _colour_of(found) if colour else ""),
    ]
    return "  ".join(parts)


def summary(found: Decoded) -> str:
    """Return what matters of what a record says."""
    again = "redriven: " if read_redrive(found.record.headers) is not None else ""
    return again + _summary(found)


def _summary(found: Decoded) -> str:
    record = found.record
    if found.is_deletion:
        return "deleted"
    if record.topic == DEAD_LETTERS.name:
        return _dead_letter(record)
    if found.problem:
        shown = "" if record.topic in SECRET_TOPICS else f": {_quoted(readable(record.value[: 4 * _TEXT_LENGTH_MAX]))}"
        return f"cannot be read ({_cut(found.problem)}), {len(record.value)} bytes{shown}"
    if isinstance(found.event, WebhookPart) and record.topic == STATUS.name:
        return _statuses(found.event)
    summarise = _SUMMARIES.get(type(found.event))
    return summarise(found.event) if summarise else _cut(json.dumps(found.content, ensure_ascii=False, separators=(",", ":")))


def _items(part: WebhookPart) -> str:
    channel = CHANNELS.get(part.channel)
    count = sum(len(change.items) for change in part.changes)
    return _listed((_item(item) for item in (channel.parse(part) if channel else ())), count)


def _item(item: Item) -> str:
    kind = item.type if item.kind == "message" else f"{item.kind} {item.type}" if item.type != item.kind else item.kind
    return " ".join(word for word in (harmless(kind), _quoted(item.text) if item.text else "") if word)


def _routed(part: RoutedPart) -> str:
    leads = {"ask": "ask whose this is", "answer": "it is", "deliver": "deliver here", "link": "belongs to"}[part.route.step]
    words = [leads, harmless(part.route.canonical), f"for {harmless(part.conversation)}" if part.changes else "", _items(part)]
    return " ".join(word for word in words if word)


def _statuses(part: WebhookPart) -> str:
    channel = CHANNELS.get(part.channel)
    count = sum(len(change.items) for change in part.changes)
    return _listed((_status(update) for update in (channel.parse_statuses(part) if channel else ())), count)


def _status(update: StatusUpdate) -> str:
    words = [harmless(update.status), harmless(update.platform_id)]
    words += [f"by {harmless(update.participant)}"] if update.participant else []
    words += [f"send {harmless(update.send)}"] if update.send else []
    words += [f"({_error(update.error_code, update.error)})"] if update.error_code or update.error else []
    return " ".join(words)


def _inbound(event: InboundEvent) -> str:
    said = _quoted(event.text) if event.text else ""
    decision = harmless(event.decision) + (f" ({harmless(event.reason)})" if event.reason else "")
    head = " ".join(
        word for word in (decision, "" if event.direction == "in" else harmless(event.direction), harmless(event.type), said) if word
    )
    by = [f"by {harmless(event.agent)}"] if event.agent else []
    sends = [f"send {harmless(send)}" for send in event.replies[:_ITEMS_SHOWN]]
    return ", ".join([head, *by, *sends, *_spent(event.waited_ms, event.worked_ms)])


def _linked(event: LinkedEvent) -> str:
    joined = "" if event.is_joined else ", from now on"
    return f"linked {harmless(event.alias)}, which belongs to {harmless(event.conversation)}{joined}"


def _outbound(event: OutboundEvent) -> str:
    return f"{harmless(event.step)} {_message(event.message)} to {harmless(event.to)}, send {harmless(event.id)}"


def _sent(event: SentEvent) -> str:
    words = [harmless(event.outcome), _message(event.message)]
    words += [f"as {harmless(event.platform_id)}"] if event.platform_id else []
    words += [f"({_error(event.error_code, event.error)})"] if event.error and event.outcome != "accepted" else []
    marks = [mark for mark, is_so in (("settled by its status", event.settled), ("sent once more", event.resent)) if is_so]
    return ", ".join([" ".join(words), f"send {harmless(event.id)}", *marks, *_spent(event.waited_ms, event.worked_ms)])


def _planned(event: PlannedEvent) -> str:
    why = f" ({_cut(event.error)})" if event.error else ""
    waits = [f"waits {event.wait_s:g} s for a status"] if event.wait_s else []
    head = f"{harmless(event.state)}{why} {_message(event.send.message)} to {harmless(event.send.to)}"
    return ", ".join([head, f"send {harmless(event.send.id)}", *waits])


def _dead_letter(record: Record) -> str:
    try:
        letter: DeadLetter = read_dead_letter(record.headers)
    except ValueError as error:
        return f"dead letter without its headers ({_cut(str(error))}), {len(record.value)} bytes"
    origin = f"{harmless(letter.topic)}/{letter.partition}/{letter.offset}"
    return f"{harmless(letter.stage)} {harmless(letter.cause)}: {_cut(letter.error)}, from {origin}, {len(record.value)} bytes"


def _canary(event: CanaryEvent) -> str:
    return f"canary of {iso(event.at)}"


def _tenant(event: Tenant) -> str:
    return f"tenant {_quoted(event.name)}" if event.name else "tenant"


def _account(event: Account) -> str:
    agent = f", agent {harmless(event.agent)}" if event.agent else ""
    return f"number {harmless(event.phone_number_id)} of tenant {harmless(event.tenant)}{agent}"


def _agent(event: Agent) -> str:
    model = f" with {harmless(event.model)}" if event.model else ""
    return f"agent of kind {harmless(event.kind)}{model} of tenant {harmless(event.tenant)}"


def _message(message: msgspec.Raw) -> str:
    kind, text = described(message)
    return f"{harmless(kind)} {_quoted(text)}" if text else harmless(kind)


def _error(code: int, error: str) -> str:
    return f"{code} {_cut(error)}" if code else _cut(error)


def _spent(waited_ms: int, worked_ms: int) -> list[str]:
    return [f"{name} {value} ms" for name, value in (("waited", waited_ms), ("worked", worked_ms)) if value]


def _listed(said: Iterable[str], count: int) -> str:
    shown = list(islice(said, _ITEMS_SHOWN))
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return "; ".join([*shown, *more])


def _quoted(text: str) -> str:
    return f'"{_cut(text)}"'


def _cut(text: str) -> str:
    if len(text) <= _TEXT_LENGTH_MAX:
        return harmless(text)
    return f"{harmless(text[:_TEXT_LENGTH_MAX])}… ({len(text)} characters)"


def _painted(text: str, colour: str) -> str:
    return f"{colour}{text}{_RESET}" if colour else text


def _colour_of(found: Decoded) -> str:
    event: Any = found.event
    word = getattr(event, "outcome", "") or getattr(event, "decision", "") or getattr(event, "state", "")
    if found.problem or found.record.topic == DEAD_LETTERS.name or word in _WRONG:
        return _RED
    return _YELLOW if word in _OPEN else ""


_SUMMARIES: dict[type, Callable[[Any], str]] = {
    RoutedPart: _routed,
    WebhookPart: _items,
    InboundEvent: _inbound,
    LinkedEvent: _linked,
    OutboundEvent: _outbound,
    SentEvent: _sent,
    PlannedEvent: _planned,
    CanaryEvent: _canary,
    Tenant: _tenant,
    Account: _account,
    Agent: _agent,
}
