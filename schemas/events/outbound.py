"""[outbound-*]: a message to send. The first record of an id counts; a second one is the same send again."""

import msgspec

from schemas.codec import Event
from schemas.events.inbound import RecordPosition


class OutboundEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One send; times are milliseconds since 1970 UTC.

    `message` is the platform's own message object, such as `{"type":"text","text":{"body":"hello"}}`. `to` is the address exactly as the
    platform gave it or the caller wrote it, `to_kind` says what it is: phone, user (a business-scoped user id) or group.
    `unknown` (park or resend) and `unknown_wait` (seconds) stand for OTTLA_UNKNOWN and OTTLA_UNKNOWN_WAIT where they are given. `caused_at`
    is when its cause was stored, by the log's clock: no record of this id is older. `lookup`: that is not known (a caller made the id, or
    something redriven), so an outcome is always looked for in history too.
    """

    id: str
    conversation: str
    tenant: str
    channel: str
    account: str
    to: str
    to_kind: str
    priority: str
    message: msgspec.Raw
    cause: str
    step: str
    created_at: int
    agent: str = ""
    raw: RecordPosition | None = None
    unknown: str = ""
    unknown_wait: float | None = None
    caused_at: int | None = None
    lookup: bool = False
