"""/: how the promises are kept just now, and the flow with its figures; live."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.reading import EVERY_TENANT
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.metrics import WEBHOOKS
from ingress.pages.counts import Counts
from ingress.pages.lag_rows import lag_rows
from ingress.pages.live import Item, version_of
from ingress.pages.render import page, piece
from ingress.pages.verdicts import Flow, Verdict, flow_of, headline_of, refused_of, verdicts_of_history, verdicts_of_log


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says; a tenant sees no figures of the flow, which is everybody's."""

    verdicts: list[Verdict]
    flow: Flow | None


async def show_overview(request: Request) -> Response:
    """Show it, also while Kafka or Cassandra is away."""
    return page(request, "overview.html", **_parts(await _overview(request, request.app.state.cassandra)))


async def newest_overview(request: Request, cassandra: Cassandra | None) -> list[Item]:
    """Return its parts, as they change."""
    parts = _parts(await _overview(request, cassandra))
    (words, words_version), (verdicts, verdicts_version), (flow, flow_version) = (parts[name] for name in ("words", "verdicts", "flow"))
    items = [
        Item("o-headline", words_version, lambda: piece(request, "overview_parts.html", "headline", words, words_version)),
        Item("o-verdicts", verdicts_version, lambda: piece(request, "overview_parts.html", "verdicts", verdicts, verdicts_version)),
    ]
    if flow is not None:
        items.append(Item("o-flow", flow_version, lambda: piece(request, "overview_parts.html", "flow", flow, flow_version)))
    return items


def _parts(found: Overview) -> dict[str, Any]:
    words = headline_of(found.verdicts)
    return {
        "words": (words, version_of(words)),
        "verdicts": (found.verdicts, version_of(found.verdicts)),
        "flow": (found.flow, version_of(found.flow)),
    }


async def _overview(request: Request, cassandra: Cassandra | None) -> Overview:
    tenant: str = request.state.tenant
    counts, no_history = await _counts(request, cassandra, tenant)
    of_history = verdicts_of_history(counts, no_history)
    if tenant != EVERY_TENANT:
        return Overview(verdicts=of_history, flow=None)
    rows, away = await lag_rows(request.app.state.lag)
    flow = flow_of(rows, counts, refused_of(_answers()))
    return Overview(verdicts=[*verdicts_of_log(rows, away), *of_history], flow=flow)


async def _counts(request: Request, cassandra: Cassandra | None, tenant: str) -> tuple[Counts | None, str]:
    """Return the counts, or why there are none."""
    if cassandra is None:
        return None, "Cassandra does not answer"
    try:
        return await request.app.state.counter.count(cassandra, tenant), "they are being counted"
    except CassandraAwayError as error:
        return None, str(error)


def _answers() -> dict[str, int]:
    """Return how often this process answered a webhook with each HTTP status, since it began."""
    samples = (sample for metric in WEBHOOKS.collect() for sample in metric.samples if sample.name.endswith("_total"))
    return {sample.labels["status"]: int(sample.value) for sample in samples}


routes = [Route("/", show_overview, methods=["GET"])]
