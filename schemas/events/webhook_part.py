"""[raw] and [status]: one conversation's part of one webhook body.

A part keeps the platform's own JSON of every item untouched (`items` are verbatim slices of the body) beside the metadata and contacts
that came with it. One record for each conversation and body, so that a body that could be stored only in part is never reordered
when the platform sends it again.
"""

import msgspec

from schemas.codec import Event

NO_JSON = msgspec.Raw(b"null")


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Neighbouring items of one kind out of one `changes[]` element of the body.

    `kind` is what our channel calls them: message, status, echo, history, call, preference, identity (a user id changed), error, change (a
    field without items of its own, such as account_update) or unknown. `path` says where in the body the first one stood, such as
    `entry.0.changes.2.messages.5`. `entry` and `time` (seconds since 1970, 0 where there is none) are the platform's id and time of the
    entry, `metadata` its own JSON of the account (`null` where there is none).
    """

    kind: str
    field: str
    entry: str = ""
    time: int = 0
    path: str = ""
    # Not `Raw | None`: msgspec reads such a union as None alone and would refuse every record that has metadata.
    metadata: msgspec.Raw = NO_JSON
    contacts: list[msgspec.Raw] = []
    items: list[msgspec.Raw] = []


class WebhookPart(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """A record of [raw] or [status]; times are milliseconds since 1970 UTC."""

    channel: str
    account: str
    conversation: str
    received_at: int
    changes: list[Change]
