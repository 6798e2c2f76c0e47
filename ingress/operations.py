"""The figures of /api/..., /health/whatsapp and /admin/... in the shapes that the seed documents gave them. Pure.

What several processes count is added up, since each was started. A figure that nobody can be asked about is null, never made up. There are
no circuit breakers yet, so no field speaks of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infra.cassandra.statistics import Statistics
from infra.lag.burrow import UNWELL, State
from infra.role_figures import Figures
from schemas.groups import GROUPS

SLOW_MS = 50.0
"""What a query of the database should not take."""

_STREAMS, _SENDER = "streams", "sender"
_HANDLED = ("stored", "answered", "dead-letter")
_TABLE = "conversations"
_SERVER_ERROR = 500


class Shape(msgspec.Struct, kw_only=True, rename="camel"):
    """An answer; its names are camelCase, as they were."""


class CacheTable(Shape):
    """One table that a process holds; those of the configuration are whole, so that nothing can be missed in them."""

    keys: int | None
    hits: int | None = None
    misses: int | None = None
    hit_rate: float | None = None


class Cache(Shape):
    """What is held near the work: `hit_rate` is a share from 0 to 1, null before the first lookup."""

    hits: int | None
    misses: int | None
    hit_rate: float | None
    keys: int | None


class CacheStats(Cache):
    """The same, and each table."""

    tables: dict[str, CacheTable]


class Processor(Shape):
    """What streams did with distinct items (`processed`), with those that came again, and how many events are inside."""

    processed: int | None
    duplicates: int | None
    errors: int | None
    currently_processing: int | None


class WebhookHealth(Shape):
    """GET /api/webhook/health."""

    status: str
    cache: Cache
    processor: Processor


class Database(Shape):
    """Whether Cassandra answers, and after how many milliseconds."""

    connected: bool
    latency_ms: float | None


class Webhooks(Shape):
    """Webhook requests since the ingress was started, by what they were answered."""

    received: int
    stored: int
    refused: int
    failed: int


class WebhooksHealth(Shape):
    """GET /api/webhooks/whatsapp/health: `error_rate` is the share of requests that were answered 5xx, null before the first."""

    status: str
    database: Database
    webhooks: Webhooks
    error_rate: float | None
    cache: Cache


class WorkerStatistics(Shape):
    """What streams and sender did."""

    processed: int | None
    duplicates: int | None
    active: int | None
    sent: int | None
    rejected: int | None
    unknown: int | None
    retries: int | None
    errors: int | None


class Workers(Shape):
    """GET /api/workers/whatsapp: `queue_size` is what streams and sender have before them."""

    queue_size: int | None
    statistics: WorkerStatistics
    hit_rate: float | None


class HealthMetrics(Shape):
    """Figures of GET /health/whatsapp."""

    queue_length: int | None
    cache_size: int | None
    conversation_states: int | None
    rate_limit_tracking: int | None


class Health(Shape):
    """GET /health/whatsapp: `uptime` is the ingress's, in seconds."""

    healthy: bool
    metrics: HealthMetrics
    uptime: float


class Queue(Shape):
    """One consumer group: records before it and inside it, what it did and what it could not do; `success_rate` from 0 to 1."""

    waiting: int | None
    active: int | None
    completed: int | None
    failed: int | None
    success_rate: float | None


class Performance(Shape):
    """Of the database: a query there and back in milliseconds, and what it was asked for altogether."""

    latency_ms: float
    reads: int
    writes: int
    reads_per_second: float
    writes_per_second: float


class DatabaseTable(Shape):
    """One table: what it was asked for, and mebibytes on disk."""

    reads: int
    writes: int
    mebibytes: int


class DatabaseStats(Shape):
    """GET /admin/db/stats: `slow_queries` are the operations of which one took over 50 ms, the slowest first."""

    performance: Performance
    slow_queries: list[dict[str, Any]]
    tables: dict[str, DatabaseTable]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out for one answer: rows of lag (None: Kafka is away), and how many entries each table of the configuration has."""

    figures: Figures
    kafka: bool
    lag: Sequence[Mapping[str, Any]] | None
    configuration: Mapping[str, int]


def status_of(seen: Seen, *, database: bool = True) -> str:
    """Return `healthy`, `degraded` where webhooks are stored and something else is not as it should be, or `unhealthy`.

    That is: a role that should be there does not answer, the lag is not known, or a group does not get on.
    """
    if not seen.kafka:
        return "unhealthy"
    known = database and seen.lag is not None and not seen.figures.away
    return "healthy" if known and not any(State(row["state"]) in UNWELL for row in seen.lag or ()) else "degraded"


def webhook_health(seen: Seen) -> WebhookHealth:
    """Return the answer of GET /api/webhook/health."""
    return WebhookHealth(status=status_of(seen), cache=_cache(seen), processor=_processor(seen))


def webhooks_health(seen: Seen, *, database_ms: float | None) -> WebhooksHealth:
    """Return the answer of GET /api/webhooks/whatsapp/health; without `database_ms` the database does not answer."""
    database = Database(connected=database_ms is not None, latency_ms=database_ms)
    answered = {status: seen.figures.total("ottla_webhooks_total", status=str(status)) for status in (200, 400, 401, 408, 413, 503)}
    received = sum(answered.values())
    failed = sum(count for status, count in answered.items() if status >= _SERVER_ERROR)
    webhooks = Webhooks(received=received, stored=answered[200], refused=received - answered[200] - failed, failed=failed)
    return WebhooksHealth(
        status=status_of(seen, database=database.connected),
        database=database,
        webhooks=webhooks,
        error_rate=_share(failed, received),
        cache=_cache(seen),
    )


def workers(seen: Seen) -> Workers:
    """Return the answer of GET /api/workers/whatsapp."""
    figures, processor = seen.figures, _processor(seen)
    sends = _counts(seen, _SENDER)
    sent, rejected, unknown = (
        figures.total("ottla_sends_total", outcome=outcome) if sends else None for outcome in ("accepted", "rejected", "unknown")
    )
    inside = [figures.total("ottla_events_in_flight", stage=group) for group in (_STREAMS, _SENDER) if _counts(seen, group)]
    errors = [_errors(seen, group) for group in (_STREAMS, _SENDER)]
    return Workers(
        queue_size=_waiting(seen, _STREAMS, _SENDER),
        statistics=WorkerStatistics(
            processed=processor.processed,
            duplicates=processor.duplicates,
            active=sum(inside) if inside else None,
            sent=sent,
            rejected=rejected,
            unknown=unknown,
            retries=figures.total("ottla_send_retries_total") if sends else None,
            errors=sum(each or 0 for each in errors) if any(each is not None for each in errors) else None,
        ),
        hit_rate=_cache(seen).hit_rate,
    )


def health(seen: Seen, *, uptime_s: float) -> Health:
    """Return the answer of GET /health/whatsapp."""
    known = seen.figures.has("ottla_pauses")
    return Health(
        healthy=status_of(seen) == "healthy",
        metrics=HealthMetrics(
            queue_length=_waiting(seen, _STREAMS, _SENDER),
            cache_size=_cache(seen).keys,
            conversation_states=_table(seen).keys,
            rate_limit_tracking=seen.figures.total("ottla_pauses") if known else None,
        ),
        uptime=round(uptime_s, 1),
    )


def cache_stats(seen: Seen) -> CacheStats:
    """Return the answer of GET /admin/cache/stats."""
    cache = _cache(seen)
    tables = {_TABLE: _table(seen)} | {name: CacheTable(keys=keys) for name, keys in seen.configuration.items()}
    return CacheStats(hits=cache.hits, misses=cache.misses, hit_rate=cache.hit_rate, keys=cache.keys, tables=tables)


def queues_stats(seen: Seen) -> dict[str, Queue]:
    """Return the answer of GET /admin/queues/stats: each consumer group by its name."""
    return {group: _queue(seen, group) for group in GROUPS}


def database_stats(statistics: Statistics) -> DatabaseStats:
    """Return the answer of GET /admin/db/stats."""
    reads = [each for each in statistics.operations if each.operation != "write"]
    writes = [each for each in statistics.operations if each.operation == "write"]
    slow = sorted((each for each in statistics.operations if each.max_ms > SLOW_MS), key=lambda each: -each.max_ms)
    return DatabaseStats(
        performance=Performance(
            latency_ms=statistics.latency_ms,
            reads=sum(each.count for each in reads),
            writes=sum(each.count for each in writes),
            reads_per_second=round(sum(each.per_second for each in reads), 3),
            writes_per_second=round(sum(each.per_second for each in writes), 3),
        ),
        slow_queries=[msgspec.to_builtins(each) for each in slow],
        tables={
            name: DatabaseTable(
                reads=sum(each.count for each in reads if each.table == name),
                writes=sum(each.count for each in writes if each.table == name),
                mebibytes=mebibytes,
            )
            for name, mebibytes in sorted(statistics.mebibytes.items())
        },
    )


def _counts(seen: Seen, group: str) -> bool:
    """Tell whether any process that runs a group was reached."""
    return seen.figures.has("ottla_events_in_flight", stage=group)


def _errors(seen: Seen, group: str) -> int | None:
    return seen.figures.total("ottla_dead_letters_total", stage=group) if _counts(seen, group) else None


def _processor(seen: Seen) -> Processor:
    if not _counts(seen, _STREAMS):
        return Processor(processed=None, duplicates=None, errors=None, currently_processing=None)
    figures = seen.figures
    return Processor(
        processed=sum(figures.total("ottla_events_total", stage=_STREAMS, outcome=outcome) for outcome in _HANDLED),
        duplicates=figures.total("ottla_events_total", stage=_STREAMS, outcome="duplicate"),
        errors=_errors(seen, _STREAMS),
        currently_processing=figures.total("ottla_events_in_flight", stage=_STREAMS),
    )


def _table(seen: Seen) -> CacheTable:
    figures = seen.figures
    if not figures.has("ottla_table_keys", table=_TABLE):
        return CacheTable(keys=None)
    hits, misses = (figures.total("ottla_table_reads_total", table=_TABLE, result=result) for result in ("hit", "miss"))
    keys = figures.total("ottla_table_keys", table=_TABLE)
    return CacheTable(keys=keys, hits=hits, misses=misses, hit_rate=_share(hits, hits + misses))


def _cache(seen: Seen) -> Cache:
    table = _table(seen)
    keys = None if table.keys is None else table.keys + sum(seen.configuration.values())
    return Cache(hits=table.hits, misses=table.misses, hit_rate=table.hit_rate, keys=keys)


def _waiting(seen: Seen, *groups: str) -> int | None:
    if seen.lag is None:
        return None
    return sum(int(row["lag_messages"]) for row in seen.lag if row["group"] in groups)


def _queue(seen: Seen, group: str) -> Queue:
    before = _waiting(seen, group)
    if not _counts(seen, group):
        return Queue(waiting=before, active=None, completed=None, failed=None, success_rate=None)
    figures = seen.figures
    active = figures.total("ottla_events_in_flight", stage=group)
    completed = {
        _STREAMS: lambda: _processor(seen).processed or 0,
        _SENDER: lambda: figures.total("ottla_sends_total", outcome="accepted"),
    }.get(group, lambda: figures.total("ottla_events_total", stage=group, outcome="handled"))()
    failed = _errors(seen, group) or 0
    if group == _STREAMS:
        # An item that failed was dealt with, too; a record that could not be read has no items.
        unread = figures.total("ottla_dead_letters_total", stage=group, cause="undecodable")
        completed = max(0, completed - (failed - unread))
    return Queue(
        # What is inside is uncommitted, too.
        waiting=None if before is None else max(0, before - active),
        active=active,
        completed=completed,
        failed=failed,
        success_rate=_share(completed, completed + failed),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
