"""[ledger]: a send that must wait long, with its body, so that the record it came from need not be held for it."""

from schemas.codec import Event
from schemas.events.inbound import RecordPosition
from schemas.events.outbound import OutboundEvent


class PlannedEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One send that waits; `at` is milliseconds since 1970 UTC.

    `state` is planned (nothing was sent: its pair or number is paused, or it stands behind one of its conversation that waits) or unknown
    (it was tried `attempts` times, its answer was lost for the reason in `error`, and a status has `wait_s` more seconds to settle it).
    No outcome of the send is older than `since`, milliseconds since 1970 UTC (0: it may be as old as anything). `source` is its own record
    in [outbound-*]: a worker that was paused may write `planned` when another one has claimed that, and sent it, meanwhile.
    """

    send: OutboundEvent
    state: str
    at: int
    attempts: int = 0
    http_status: int = 0
    error: str = ""
    wait_s: float = 0.0
    since: int = 0
    source: RecordPosition | None = None
