"""OpenTelemetry traces: from a webhook through every stage to the delivery status, handed on in the records' header `traceparent`.

They are on where OTEL_EXPORTER_OTLP_ENDPOINT is set (the SDK reads this and its other OTEL_ variables itself). Where it is not, nothing of
OpenTelemetry is imported and a span costs a comparison. Names and attributes follow the semantic conventions; none holds a phone number, a
conversation or a text.
"""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from infra.errors import UsageError
from infra.kafka.record import Record
from schemas.codec import Headers

HEADER = "traceparent"

_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_LINKS_MAX = 100

Kind = Literal["internal", "server", "client", "consumer"]
Attributes = Mapping[str, str | int | bool]
_NONE: Attributes = {}


class Span(Protocol):
    """A piece of work that is measured, entered with `with`; what is begun inside belongs to it."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        """End; of an error only its type is told."""

    def set(self, name: str, value: str | int | bool) -> None:
        """Set an attribute."""


class _Nothing:
    """The span of a process that traces nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        return

    def set(self, name: str, value: str | int | bool) -> None:
        """Set nothing."""


_NOTHING = _Nothing()


class _Tracing:
    """The SDK, imported only here."""

    def __init__(self, *, role: str, worker: str) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError:
            name = next(name for name in _VARIABLES if os.environ.get(name))
            raise UsageError(f"{name} is set, but OpenTelemetry is not installed: pip install 'ottla[traces]', or unset it.") from None
        self.context, self.trace = context, trace
        self.kinds = {name: trace.SpanKind[name.upper()] for name in ("internal", "server", "client", "consumer")}
        self._propagator = TraceContextTextMapPropagator()
        service = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or f"ottla-{role}", "service.instance.id": worker}
        self.provider = TracerProvider(resource=Resource.create(service))
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self.provider.get_tracer("ottla")

    def parent(self, headers: Headers | None) -> Any:
        """Return the context that a record's headers name; None: whatever is current."""
        if headers is None:
            return None
        found = next((value for name, value in headers if name == HEADER), b"")
        return self._propagator.extract({HEADER: found.decode("ascii", "replace")}, context=self.context.Context())

    def link(self, headers: Headers) -> Any:
        """Return a link to what a record's headers name; None if they name nothing."""
        context = self.trace.get_current_span(self.parent(headers)).get_span_context()
        return self.trace.Link(context) if context.is_valid else None


class _Live:
    """A span that is exported."""

    def __init__(
        self, tracing: _Tracing, name: str, *, kind: Kind, parent: Headers | None, links: Sequence[Headers], attributes: Attributes
    ) -> None:
        self._tracing = tracing
        found = [link for headers in links[:_LINKS_MAX] if (link := tracing.link(headers)) is not None]
        self._span = tracing.tracer.start_span(
            name, context=tracing.parent(parent), kind=tracing.kinds[kind], links=found, attributes=dict(attributes)
        )
        self._token: Any = None

    def __enter__(self) -> Self:
        self._token = self._tracing.context.attach(self._tracing.trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        if error is not None:
            # Its text may hold what people wrote.
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(self._tracing.trace.StatusCode.ERROR)
        self._tracing.context.detach(self._token)
        self._span.end()

    def set(self, name: str, value: str | int | bool) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)


_tracing: _Tracing | None = None


def start_tracing(*, role: str, worker: str) -> None:
    """Trace from now on, if an exporter's endpoint is set; UsageError if it is and OpenTelemetry is not installed."""
    global _tracing  # noqa: PLW0603  # one for the process, like the log
    if _tracing is None and any(os.environ.get(name) for name in _VARIABLES):
        _tracing = _Tracing(role=role, worker=worker)


def stop_tracing() -> None:
    """Export what is left and trace no more."""
    global _tracing  # see above
    tracing, _tracing = _tracing, None
    if tracing is not None:
        tracing.provider.shutdown()


def is_tracing() -> bool:
    """Tell whether spans go anywhere, for what would be computed for them alone."""
    return _tracing is not None


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: Headers | None = None,
    links: Sequence[Headers] = (),
    attributes: Attributes = _NONE,
) -> Span:
    """Return a span that belongs to what `parent` (a record's headers) names; without it, to the one that is current."""
    if _tracing is None:
        return _NOTHING
    return _Live(_tracing, name, kind=kind, parent=parent, links=links, attributes=attributes)


def consumed(records: Sequence[Record], *, group: str) -> Span:
    """Return the span of a group's work on records of one lane: it belongs to the first one's, and is linked to the others'."""
    if _tracing is None:
        return _NOTHING
    first = records[0]
    attributes: dict[str, str | int | bool] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": first.topic,
        "messaging.destination.partition.id": str(first.partition),
        "messaging.kafka.offset": first.offset,
        "messaging.consumer.group.name": group,
    }
    if len(records) > 1:
        attributes["messaging.batch.message_count"] = len(records)
    links = [record.headers for record in records[1:]]
    return _Live(_tracing, f"process {first.topic}", kind="consumer", parent=first.headers, links=links, attributes=attributes)


def with_traceparent(headers: Headers) -> Headers:
    """Return a record's headers with the current span in them, if there is one."""
    current = traceparent()
    return headers if not current else [*(each for each in headers if each[0] != HEADER), (HEADER, current)]


def traceparent() -> bytes:
    """Return what names the current span in a header; empty if nothing is traced."""
    if _tracing is None:
        return b""
    context = _tracing.trace.get_current_span().get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags) if context.is_valid else b""
