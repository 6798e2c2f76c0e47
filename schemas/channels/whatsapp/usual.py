"""The usual webhook body, one message or one status: cut by one typed decoding instead of a walk.

Nearly every body has this shape. `walk` understands every other one too, and makes the same part of this one at several times the cost
(infra/decisions/0006-webhook-bodies.md). The envelope here has no room for anything that would be an item of another kind.
"""

from typing import Annotated, Any, Literal

import msgspec

from schemas.channels.base import Part
from schemas.channels.whatsapp.identity import identity, message_contact, status_contact
from schemas.channels.whatsapp.parts import PREFIX, account_of, part_of
from schemas.channels.whatsapp.walk import SECONDS_MAX, partition_hash
from schemas.events.webhook_part import NO_JSON, Change
from schemas.ids import conversation_key
from schemas.topics import RAW, STATUS

_ONE = msgspec.Meta(min_length=1, max_length=1)
_AT_MOST_ONE = msgspec.Meta(max_length=1)


class _Value(msgspec.Struct, forbid_unknown_fields=True):
    metadata: msgspec.Raw
    messaging_product: msgspec.Raw = NO_JSON
    contacts: list[msgspec.Raw] = []
    messages: Annotated[list[msgspec.Raw], _AT_MOST_ONE] = []
    statuses: Annotated[list[msgspec.Raw], _AT_MOST_ONE] = []


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    field: Literal["messages"]
    value: _Value


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    changes: Annotated[list[_Change], _ONE]
    id: str = ""
    time: Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)] = 0


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    entry: Annotated[list[_Entry], _ONE]
    object: str = ""


_cut = msgspec.json.Decoder(_Body).decode


def usual_part(tree: Any, body: bytes, *, received_at_ms: int) -> Part | None:
    """Return the only part of a body, which `tree` is the decoded form of; None if it is not of the usual shape.

    Its integers may be text or integers: only identities are read in it. Raises RecursionError where msgspec does, as `walk` does.
    """
    if not isinstance(tree, dict):
        return None
    try:
        entry = _cut(body).entry[0]
    except msgspec.DecodeError:
        return None
    value = entry.changes[0].value
    value_tree = tree["entry"][0]["changes"][0]["value"]
    metadata = value_tree["metadata"]
    if len(value.messages) + len(value.statuses) != 1 or not isinstance(metadata, dict) or None in value_tree.get("contacts", ()):
        return None
    array, kind = ("messages", "message") if value.messages else ("statuses", "status")
    item = value_tree[array][0]
    if not isinstance(item, dict):
        return None
    account = identity(metadata.get("phone_number_id"))
    is_status = kind == "status"
    key = conversation_key(channel=PREFIX, account=account, contact=status_contact(item) if is_status else message_contact(item))
    change = Change(
        kind=kind,
        field="messages",
        entry=entry.id.strip(),
        time=entry.time,
        path=f"entry.0.changes.0.{array}.0",
        metadata=value.metadata,
        contacts=value.contacts,
        items=value.statuses if is_status else value.messages,
    )
    return part_of(
        topic=STATUS.name if is_status else RAW.name,
        key=key,
        account=account_of(account, key),
        partition_hash=partition_hash(item) if is_status else None,
        received_at_ms=received_at_ms,
        changes=[change],
    )
