"""Which trace a send belongs to, so that its delivery statuses, which come as webhooks of their own, end the trace of its message."""

from infra.kafka.record import Record
from infra.newest import Newest
from infra.tracing import HEADER, is_tracing, span, traceparent
from schemas.codec import Headers
from sinks.ledger_reading import told

_REMEMBERED_MAX = 20_000


class SendTraces:
    """The newest 20,000 sends that were traced; empty where nothing is."""

    def __init__(self) -> None:
        self._traces: Newest[str, bytes] = Newest(_REMEMBERED_MAX)

    def note(self, send: str) -> None:
        """Remember that a send is part of the current span."""
        if is_tracing():
            self._remember(send, traceparent())

    def note_sent(self, send: str, headers: Headers) -> None:
        """Learn from a record of [sent], written before this worker had the partition."""
        if is_tracing():
            self._remember(send, next((value for name, value in headers if name == HEADER), b""))

    def show_statuses(self, record: Record) -> None:
        """Show each status in a record of [status] in the trace of its send, linked to the webhook that brought it."""
        if not is_tracing():
            return
        for send, _, status in told(record.value):
            known = self._traces.get(send)
            if known is not None:
                attributes = {"ottla.send": send, "ottla.status": status}
                with span("delivery status", kind="consumer", parent=[(HEADER, known)], links=[record.headers], attributes=attributes):
                    pass

    def _remember(self, send: str, trace: bytes) -> None:
        if trace:
            self._traces.put(send, trace)
