"""[sent]: what became of a send. The text that counts is the one here: it is what left."""

import msgspec

from schemas.codec import Event


class SentEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """The outcome of a send; times are milliseconds since 1970 UTC, durations milliseconds.

    `outcome` is accepted (`platform_id` names it), rejected (`error_code` and `error` say why; it will not be tried again) or unknown
    (the request may have arrived, its answer was lost, and no status told more in time). `settled`: a status brought what the answer
    did not. `resent`: it was unknown and was sent once more, so it may have arrived twice.
    """

    id: str
    conversation: str
    tenant: str
    channel: str
    account: str
    outcome: str
    message: msgspec.Raw
    at: int
    created_at: int
    attempts: int
    platform_id: str = ""
    http_status: int = 0
    error_code: int = 0
    error: str = ""
    agent: str = ""
    cause: str = ""
    waited_ms: int = 0
    worked_ms: int = 0
    settled: bool = False
    resent: bool = False
