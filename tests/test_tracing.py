"""Traces over the real flow, to a small server that takes OTLP; and nothing of them where none is asked for."""

import asyncio
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export import SpanExportResult

from infra import tracing
from infra.errors import UsageError
from infra.kafka.record import Record
from infra.settings import Settings
from infra.simulator.statuses import user_id_of
from infra.simulator.webhooks import text_body
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import records

PHONE = "15550108888"
TEXT = "where does the time go"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass
class Collector:
    """What was exported: the spans, and all of it as bytes."""

    spans: list[tuple[str, Span]] = field(default_factory=list)
    exported: bytes = b""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.exported += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
            self.spans += [(service, each) for scope in resource.scope_spans for each in scope.spans]
        return web.Response()

    def of_trace(self, trace_id: bytes) -> dict[str, tuple[str, Span]]:
        """Return the spans of one trace by their names."""
        return {each.name: (service, each) for service, each in self.spans if each.trace_id == trace_id}


@pytest.mark.servers
@pytest.mark.timeout(240)
async def test_one_trace_from_the_webhook_to_the_delivery_status(settings: Settings) -> None:
    """Every role adds its spans to it, each belongs to the one before, and nothing in them is personal."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    # What history takes together is one span that bears the name of its first record, so none of its names is sure to come.
    wanted = {"POST webhook", "process raw", "chat", "process outbound-high", "POST messages", "delivery status"}
    async with TestServer(app) as server:
        environment = {ENDPOINT: str(server.make_url("")).rstrip("/"), "OTEL_BSP_SCHEDULE_DELAY": "200"}
        async with Installation(settings, environment=environment) as installation:
            body = text_body(account=ACCOUNT, phone=PHONE, texts=[("wamid.traced", TEXT)], at_s=1)
            assert await installation.post(body) == 200
            async with asyncio.timeout(120):
                while not any(wanted <= set(collector.of_trace(each.trace_id)) for _, each in collector.spans):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
    trace = next(trace for _, each in collector.spans if wanted <= set(trace := collector.of_trace(each.trace_id)))
    # What a person's first message says of their names goes through [raw] once more.
    belongs = {"process raw": {"POST webhook", "process raw"}, "chat": {"process raw"}, "process outbound-high": {"process raw"}}
    belongs |= {"POST messages": {"process outbound-high"}, "delivery status": {"process outbound-high"}}
    for name, before in belongs.items():
        # Sender and history both process what is outbound; the last of them is in the table.
        parents = {each.span_id for _, each in collector.spans if each.name in before}
        assert trace[name][1].parent_span_id in parents, f"{name} does not belong to {before}"
    assert not trace["POST webhook"][1].parent_span_id
    services = {name: service for name, (service, _) in trace.items()}
    assert (services["POST webhook"], services["process raw"], services["POST messages"]) == (
        "ottla-ingress",
        "ottla-streams",
        "ottla-sinks",
    )
    status = trace["delivery status"][1]
    assert {each.value.string_value for each in status.attributes if each.key == "ottla.status"} <= {"sent", "delivered", "read"}
    assert [link.trace_id for link in status.links] != [status.trace_id]
    for needle in (PHONE, user_id_of(PHONE), TEXT, settings.whatsapp_token.get_secret_value()):
        assert needle.encode() not in collector.exported
    stored = await records(settings, "outbound-high")
    assert dict(stored[0].headers)[tracing.HEADER].decode().split("-")[1] == status.trace_id.hex()


@pytest.fixture
def _traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(OTLPSpanExporter, "export", lambda *_: SpanExportResult.SUCCESS)
    traced = tracing._Tracing(role="test", worker="one")
    monkeypatch.setattr(tracing, "_tracing", traced)
    yield
    traced.provider.shutdown()


@pytest.mark.usefixtures("_traced")
def test_a_record_carries_the_current_span_once() -> None:
    """Handed on from one record to the next, whatever it carried before; outside of a span nothing is added."""
    assert tracing.with_traceparent([("a", b"1")]) == [("a", b"1")]
    parent = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    record = Record(topic="raw", partition=3, offset=7, key=b"k", value=b"", headers=[parent], timestamp_ms=0)
    with tracing.consumed([record], group="streams"):
        onward = tracing.with_traceparent([("a", b"1"), parent])
    assert [name for name, _ in onward] == ["a", "traceparent"]
    trace_id, span_id = onward[1][1].split(b"-")[1:3]
    assert trace_id == b"0af7651916cd43dd8448eb211c80319c"
    assert span_id != b"b7ad6b7169203331"
    assert tracing.traceparent() == b""


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("value", [b"", b"nonsense", b"00-00000000000000000000000000000000-0000000000000000-01", b"\xff\xfe"])
def test_a_header_that_names_nothing_begins_a_trace(value: bytes) -> None:
    """It may be anybody's who writes to the topic."""
    with tracing.span("x", parent=[("traceparent", value)], links=[[("traceparent", value)]]):
        assert len(tracing.traceparent()) == 55


@pytest.mark.usefixtures("_traced")
def test_of_an_error_only_its_type_is_told() -> None:
    """Its text may hold what people wrote; it goes on."""
    span = tracing.span("x")
    with pytest.raises(ValueError, match="what she wrote"), span:
        raise ValueError("what she wrote")
    exported = span._span  # type: ignore[attr-defined]
    assert dict(exported.attributes) == {"error.type": "ValueError"}
    assert not exported.events
    assert not exported.status.is_ok
    assert exported.status.description is None


def test_nothing_is_imported_where_no_exporter_is_set() -> None:
    """Neither by the roles nor by spans."""
    code = (
        "import sys, ingress.app, streams.app, sinks.runner, sinks.outbound_to_platform\n"
        "from infra.tracing import span, start_tracing, with_traceparent\n"
        "start_tracing(role='x', worker='y')\n"
        "with span('x') as it:\n    it.set('a', 1)\n"
        "headers = [('a', b'1')]\n"
        "assert with_traceparent(headers) is headers\n"
        "sys.exit(any(name.split('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_an_exporter_without_the_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match=r"pip install 'ottla\[traces\]'"):
        tracing.start_tracing(role="x", worker="y")
    assert not tracing.is_tracing()
