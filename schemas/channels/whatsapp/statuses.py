"""A part of [status] into status updates; an unknown status is kept, a bad one is an update that says so."""

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.channels.base import StatusUpdate
from schemas.channels.whatsapp.identity import identity
from schemas.channels.whatsapp.reading import objects, read_item, short, sub, text, time_ms, whole
from schemas.events.webhook_part import WebhookPart
from schemas.ids import read_callback_data

_STATUS_LENGTH_MAX = 64
_ERROR_LENGTH_MAX = 500


def parse_statuses(part: WebhookPart) -> Iterator[StatusUpdate]:
    """Yield the statuses of a part of [status], in order; never raises, whatever they hold."""
    for change in part.changes:
        if change.kind != "status":
            continue
        for raw in change.items:
            yield _update(read_item(raw) or {}, raw, part.received_at)


def _update(tree: dict[str, Any], raw: msgspec.Raw, received_at: int) -> StatusUpdate:
    data = tree.get("biz_opaque_callback_data")
    ours = read_callback_data(data) if type(data) is str else None
    code, error = _error(tree)
    return StatusUpdate(
        platform_id=short(text(tree, "id")),
        status=short(text(tree, "status"), _STATUS_LENGTH_MAX) or "unknown",
        at_ms=time_ms(tree.get("timestamp"), default_ms=received_at),
        recipient=short(identity(tree.get("recipient_id")) or identity(tree.get("recipient_user_id"))),
        participant=short(identity(tree.get("recipient_participant_user_id")) or identity(tree.get("recipient_participant_id"))),
        send=ours[0] if ours else "",
        error_code=code,
        error=error,
        payload=raw,
    )


def _error(tree: dict[str, Any]) -> tuple[int, str]:
    """Return the code and the words of the first error; details are an object or plain text, codes numbers or text."""
    errors = objects(tree, "errors")
    if not errors:
        return 0, ""
    first = errors[0]
    title = text(first, "title") or text(first, "message")
    details = text(sub(first, "error_data"), "details") or text(first, "error_data") or text(first, "details")
    words = title if not details or details == title else f"{title}: {details}" if title else details
    return whole(first.get("code")) or 0, short(words, _ERROR_LENGTH_MAX)
