"""A conversation's timeline as lines of text: every message, and below it every hop that is known of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from infra.terminal import harmless

Message = Mapping[str, Any]
"""A message as the HTTP interface answers it."""

_TEXT_LENGTH_MAX = 2_000
_TICKS = {"received": "", "queued": "…", "accepted": "✓", "sent": "✓", "delivered": "✓✓", "read": "✓✓", "played": "✓✓"}
_CROSS = "✗"


def message_lines(message: Message, *, hops_shown: int = 0) -> list[str]:
    """Return a message's line and those of its hops; the first `hops_shown` hops are left out."""
    head = f"{_moment(message['at'])}  {message['direction']:<3}  {harmless(message['type']) or '-'}  {_text(message['text'])}"
    status = _status(message)
    return [f"{head}  {status}".rstrip(), *_hop_lines(message["hops"][hops_shown:])]


def _status(message: Message) -> str:
    status = harmless(message["status"])
    if message["direction"] == "in":
        return ""
    shown = f"{_TICKS.get(status, _CROSS)} {status}"
    errors = [each for each in (message, *message["statuses"]) if each.get("error") or each.get("error_code")]
    if status not in _TICKS and errors:
        shown += f" ({errors[-1].get('error_code') or ''} {harmless(errors[-1].get('error', ''))})".replace("( ", "(")
    return shown


def _hop_lines(hops: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(harmless(hop["name"]), _clock(hop["at"]), _record(hop), _spent(hop), harmless(hop.get("detail", ""))) for hop in hops]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [("    " + "  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(4)), row[4]])).rstrip() for row in rows]


def _record(hop: Mapping[str, Any]) -> str:
    record = hop.get("record")
    return f"{harmless(record['topic'])}/{record['partition']}/{record['offset']}" if record else ""


def _spent(hop: Mapping[str, Any]) -> str:
    waited, worked = hop.get("waited_ms"), hop.get("worked_ms")
    return ", ".join(f"{name} {value} ms" for name, value in (("waited", waited), ("worked", worked)) if value is not None)


def _text(text: str) -> str:
    if len(text) <= _TEXT_LENGTH_MAX:
        return harmless(text)
    return f"{harmless(text[:_TEXT_LENGTH_MAX])}… ({len(text)} characters)"


def _moment(at: str) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d} {_clock(at)}"


def _clock(at: str) -> str:
    time = datetime.fromisoformat(at)
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"
