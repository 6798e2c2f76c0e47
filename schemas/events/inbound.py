"""[inbound]: a distinct item of [raw] with the decision that was made about it, written by streams for history."""

import msgspec

from schemas.codec import Event


class RecordPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the platform told about the other side; any of it may be missing."""

    name: str = ""
    phone: str = ""
    user_id: str = ""


class InboundEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One item; times are milliseconds since 1970 UTC, durations milliseconds.

    `kind` is as in the part it came from; `type` the platform's own type (text, image, reaction, ...). `decision` is `answered` (replies
    names the sends), `stored` (nothing to answer; `reason` says why) or `failed` (dead-lettered; a fallback was sent where one could be).
    """

    id: str
    conversation: str
    tenant: str
    channel: str
    account: str
    direction: str  # in, or out for what people sent from the business's own app
    kind: str
    type: str
    platform_id: str
    at: int
    received_at: int
    decided_at: int
    decision: str
    reason: str = ""
    text: str = ""
    person: Person = Person()
    agent: str = ""
    replies: list[str] = []
    waited_ms: int = 0
    worked_ms: int = 0
    raw: RecordPosition
    payload: msgspec.Raw
