"""The endpoints that the seed documents named, with their shapes: health of webhooks and workers, caches, database, queues, a restart.

Their figures are counted where the work is done: in the other roles' processes (`OTTLA_ROLE_URLS`), by Kafka and by Cassandra.
"""

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.session import Cassandra
from infra.cassandra.statistics import answer_ms, read_statistics
from infra.config_tables import ConfigTables
from infra.kafka.producer import ProduceError
from infra.lag.watcher import LagWatcher
from infra.retries import AwayError
from infra.role_figures import RoleFigures
from ingress.audit import audit_of
from ingress.operations import (
    CacheStats,
    DatabaseStats,
    Health,
    Queue,
    Seen,
    WebhookHealth,
    WebhooksHealth,
    Workers,
    cache_stats,
    database_stats,
    health,
    queues_stats,
    webhook_health,
    webhooks_health,
    workers,
)
from ingress.problems import problem

_ANSWER_S = 2.0


async def get_webhook_health(request: Request) -> Response:
    """Answer how webhooks are taken and handled; 503 while they cannot be stored."""
    answer = webhook_health(await _seen(request))
    return _json(answer, status=503 if answer.status == "unhealthy" else 200)


async def get_webhooks_health(request: Request) -> Response:
    """Answer the same with the database and the share of errors; 503 while webhooks cannot be stored."""
    seen, database_ms = await asyncio.gather(_seen(request), _database_ms(request.app.state.cassandra))
    answer = webhooks_health(seen, database_ms=database_ms)
    return _json(answer, status=503 if answer.status == "unhealthy" else 200)


async def get_workers(request: Request) -> Response:
    """Answer what streams and sender have before them and did."""
    return _json(workers(await _seen(request)))


async def get_health(request: Request) -> Response:
    """Answer whether all is well, in one word and four figures; 503 if it is not."""
    answer = health(await _seen(request), uptime_s=time.monotonic() - request.app.state.started_at)
    return _json(answer, status=200 if answer.healthy else 503)


async def get_cache_stats(request: Request) -> Response:
    """Answer hits, misses and keys of every table that is held near the work."""
    return _json(cache_stats(await _seen(request)))


async def get_database_stats(request: Request) -> Response:
    """Answer what Cassandra measured: speed, slow queries, tables; 503 while it is away."""
    state = request.app.state
    cassandra: Cassandra | None = state.cassandra
    try:
        if cassandra is None:
            raise AwayError("Cassandra does not answer.")  # noqa: TRY301  # one answer for both ways to be away
        async with asyncio.timeout(_ANSWER_S * 2):
            return _json(database_stats(await read_statistics(cassandra, state.settings.keyspace)))
    except (AwayError, TimeoutError):
        return problem(503, "Cassandra is away", "Try again in a moment.", {"Retry-After": "5"})


async def get_queues_stats(request: Request) -> Response:
    """Answer what each consumer group has before it, has inside, did, and could not do."""
    return _json(queues_stats(await _seen(request)))


async def post_queues_restart(request: Request) -> Response:
    """Have the workers of all queues finish what they do, end, and be started again: 202 with their names, 409 if none would be."""
    state = request.app.state
    roles: RoleFigures = state.role_figures
    try:
        await audit_of(request).note("restart", "queues")
    except ProduceError as error:
        return problem(503, "Not written down", f"The log did not acknowledge ({error}): nothing was restarted.", {"Retry-After": "5"})
    restarting, refused = await roles.restart(state.settings.admin_key.get_secret_value())
    if not restarting:
        why = "; ".join(refused) or "OTTLA_ROLE_URLS names no other role"
        return problem(409, "Nothing was restarted", f"{why}: have whoever runs the roles restart them.")
    return _json({"restarting": restarting, "refused": refused}, status=202)


async def _seen(request: Request) -> Seen:
    state = request.app.state
    lag: LagWatcher = state.lag
    roles: RoleFigures = state.role_figures
    tables: ConfigTables = state.config
    figures, kafka, rows = await asyncio.gather(roles.read(), state.readiness.check(), _lag(lag))
    configuration = {"tenants": len(tables.tenants), "accounts": len(tables.accounts), "agents": len(tables.agents)}
    return Seen(figures=figures, kafka=kafka, lag=rows, configuration=configuration)


async def _lag(lag: LagWatcher) -> list[dict[str, Any]] | None:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await lag.rows()
    except (AwayError, TimeoutError):
        return None


async def _database_ms(cassandra: Cassandra | None) -> float | None:
    if cassandra is None:
        return None
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await answer_ms(cassandra)
    except Exception:  # noqa: BLE001  # whatever the driver raises, the answer is: it does not answer
        return None


def _json(answer: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status_code=status, media_type="application/json")


ANSWERS: dict[str, Any] = {
    "/api/webhook/health": WebhookHealth,
    "/api/webhooks/whatsapp/health": WebhooksHealth,
    "/api/workers/whatsapp": Workers,
    "/health/whatsapp": Health,
    "/admin/cache/stats": CacheStats,
    "/admin/db/stats": DatabaseStats,
    "/admin/queues/stats": dict[str, Queue],
}
"""What each path answers, for /openapi.json."""

routes = [
    Route("/api/webhook/health", get_webhook_health),
    Route("/api/webhooks/whatsapp/health", get_webhooks_health),
    Route("/api/workers/whatsapp", get_workers),
    Route("/health/whatsapp", get_health),
    Route("/admin/cache/stats", get_cache_stats),
    Route("/admin/db/stats", get_database_stats),
    Route("/admin/queues/stats", get_queues_stats),
    Route("/admin/queues/restart", post_queues_restart, methods=["POST"]),
]
