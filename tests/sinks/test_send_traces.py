"""Which trace a send's statuses belong to."""

from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra import tracing
from infra.kafka.record import Record
from schemas.ids import callback_data
from sinks import send_traces
from sinks.send_traces import SendTraces

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode())]
SEND = "a" * 32


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Trace, and give what is shown."""
    monkeypatch.setattr(OTLPSpanExporter, "export", lambda *_: SpanExportResult.SUCCESS)
    traced, exporter = tracing._Tracing(role="test", worker="one"), InMemorySpanExporter()
    traced.provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracing", traced)
    yield exporter
    traced.provider.shutdown()


def status(send: str) -> Record:
    """Return a record of [status] that says that a send was delivered."""
    data = callback_data(send=send, conversation="wa:1:2")
    value = f'{{"changes": [{{"items": [{{"id": "wamid.1", "status": "delivered", "biz_opaque_callback_data": "{data}"}}]}}]}}'
    headers = [("traceparent", b"00-11111111111111111111111111111111-2222222222222222-01")]
    return Record(topic="status", partition=0, offset=1, key=b"wa:1:2", value=value.encode(), headers=headers, timestamp_ms=0)


def test_a_status_is_shown_in_its_send_s_trace(shown: InMemorySpanExporter) -> None:
    """Linked to the webhook that brought it; also when a former owner of the partition sent it."""
    traces = SendTraces()
    traces.note_sent(SEND, HEADERS)
    traces.show_statuses(status(SEND))
    (span,) = shown.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert dict(span.attributes or {}) == {"ottla.send": SEND, "ottla.status": "delivered"}
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["1" * 32]


def test_only_the_newest_sends_are_remembered(shown: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the others, and of sends that were not traced, nothing is shown."""
    monkeypatch.setattr(send_traces, "_REMEMBERED_MAX", 2)
    traces = SendTraces()
    for send in (SEND, "b" * 32, "c" * 32):
        traces.note_sent(send, HEADERS)
    traces.note_sent("d" * 32, [])
    traces.note("e" * 32)
    for send in (SEND, "d" * 32, "e" * 32):
        traces.show_statuses(status(send))
    assert not shown.get_finished_spans()


def test_nothing_is_remembered_where_nothing_is_traced() -> None:
    """It would be memory for nothing."""
    traces = SendTraces()
    traces.note_sent(SEND, HEADERS)
    traces.note(SEND)
    assert not traces._traces
