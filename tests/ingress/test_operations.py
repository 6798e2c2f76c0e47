"""The shapes of the seed documents, from what is counted and from what is not; no servers."""

from typing import Any

import msgspec
import pytest

from infra.cassandra.statistics import Operation, Statistics
from infra.role_figures import Figures
from ingress import operations
from ingress.operations import Seen

LAG = [
    {"group": "streams", "topic": "raw", "lag_messages": 7, "state": "OK"},
    {"group": "sender", "topic": "outbound-high", "lag_messages": 5, "state": "WARN"},
    {"group": "sender", "topic": "outbound-bulk", "lag_messages": 1, "state": "OK"},
    {"group": "history", "topic": "inbound", "lag_messages": 2, "state": "OK"},
]
STREAMS = [
    ("ottla_events_in_flight", {"stage": "streams"}, 3.0),
    ("ottla_events_total", {"stage": "streams", "outcome": "answered"}, 90.0),
    ("ottla_events_total", {"stage": "streams", "outcome": "stored"}, 9.0),
    ("ottla_events_total", {"stage": "streams", "outcome": "dead-letter"}, 1.0),
    ("ottla_events_total", {"stage": "streams", "outcome": "duplicate"}, 20.0),
    ("ottla_events_total", {"stage": "streams", "outcome": "repeated"}, 4.0),
    ("ottla_dead_letters_total", {"stage": "streams", "cause": "no-account"}, 1.0),
    ("ottla_dead_letters_total", {"stage": "streams", "cause": "model-failed"}, 3.0),
    ("ottla_dead_letters_total", {"stage": "streams", "cause": "undecodable"}, 1.0),
    ("ottla_table_keys", {"table": "conversations"}, 40.0),
    ("ottla_table_reads_total", {"table": "conversations", "result": "hit"}, 60.0),
    ("ottla_table_reads_total", {"table": "conversations", "result": "miss"}, 40.0),
]
SINKS = [
    ("ottla_events_in_flight", {"stage": "sender"}, 2.0),
    ("ottla_sends_total", {"outcome": "accepted"}, 80.0),
    ("ottla_sends_total", {"outcome": "rejected"}, 2.0),
    ("ottla_sends_total", {"outcome": "unknown"}, 1.0),
    ("ottla_sends_total", {"outcome": "suppressed"}, 9.0),
    ("ottla_send_retries_total", {"cause": "unreachable"}, 6.0),
    ("ottla_dead_letters_total", {"stage": "sender", "cause": "rejected"}, 2.0),
    ("ottla_pauses", {}, 4.0),
    ("ottla_events_in_flight", {"stage": "history"}, 5.0),
    ("ottla_events_total", {"stage": "history", "outcome": "handled"}, 300.0),
]
WEBHOOKS = [
    ("ottla_webhooks_total", {"status": "200"}, 95.0),
    ("ottla_webhooks_total", {"status": "401"}, 3.0),
    ("ottla_webhooks_total", {"status": "503"}, 2.0),
]


def seen(*samples: Any, **changed: Any) -> Seen:
    words: dict[str, Any] = {"kafka": True, "lag": LAG, "configuration": {"tenants": 1, "accounts": 2, "agents": 3}}
    return Seen(figures=Figures(samples), **{**words, **changed})


ALL = seen(*STREAMS, *SINKS, *WEBHOOKS)
NONE = seen(*WEBHOOKS, lag=None)
CACHE = {"hits": 60, "misses": 40, "hitRate": 0.6, "keys": 46}
NO_CACHE = {"hits": None, "misses": None, "hitRate": None, "keys": None}


def body(answer: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(answer))


def test_webhook_health() -> None:
    assert body(operations.webhook_health(ALL)) == {
        "status": "healthy",
        "cache": CACHE,
        "processor": {"processed": 100, "duplicates": 20, "errors": 5, "currentlyProcessing": 3},
    }
    nobody = {"processed": None, "duplicates": None, "errors": None, "currentlyProcessing": None}
    assert body(operations.webhook_health(NONE)) == {"status": "degraded", "cache": NO_CACHE, "processor": nobody}


@pytest.mark.parametrize(
    ("changed", "database", "status"),
    [
        ({}, True, "healthy"),
        ({}, False, "degraded"),
        ({"lag": None}, True, "degraded"),
        ({"kafka": False}, True, "unhealthy"),
        ({"figures": Figures((), away=["http://127.0.0.1:1"])}, True, "degraded"),
        ({"figures": Figures(())}, True, "healthy"),
        ({"lag": [{**LAG[0], "state": "STOP"}, *LAG[1:]]}, True, "degraded"),
    ],
)
def test_the_status(changed: dict[str, Any], database: bool, status: str) -> None:
    """Healthy when all that is known of answers and gets on, also where no other role is known; else it is said."""
    assert operations.status_of(msgspec.structs.replace(ALL, **changed), database=database) == status


def test_webhooks_health() -> None:
    assert body(operations.webhooks_health(ALL, database_ms=1.5)) == {
        "status": "healthy",
        "database": {"connected": True, "latencyMs": 1.5},
        "webhooks": {"received": 100, "stored": 95, "refused": 3, "failed": 2},
        "errorRate": 0.02,
        "cache": CACHE,
    }
    quiet = body(operations.webhooks_health(seen(), database_ms=None))
    assert (quiet["errorRate"], quiet["database"]) == (None, {"connected": False, "latencyMs": None})


def test_workers() -> None:
    assert body(operations.workers(ALL)) == {
        "queueSize": 13,
        "statistics": {
            "processed": 100,
            "duplicates": 20,
            "active": 5,
            "sent": 80,
            "rejected": 2,
            "unknown": 1,
            "retries": 6,
            "errors": 7,
        },
        "hitRate": 0.6,
    }
    assert set(body(operations.workers(NONE))["statistics"].values()) == {None}


def test_health() -> None:
    metrics = {"queueLength": 13, "cacheSize": 46, "conversationStates": 40, "rateLimitTracking": 4}
    assert body(operations.health(ALL, uptime_s=12.34)) == {"healthy": True, "metrics": metrics, "uptime": 12.3}
    assert body(operations.health(NONE, uptime_s=1))["metrics"] == dict.fromkeys(metrics)


def test_cache_stats() -> None:
    answer = body(operations.cache_stats(ALL))
    assert {name: answer[name] for name in CACHE} == CACHE
    assert answer["tables"]["conversations"] == {"keys": 40, "hits": 60, "misses": 40, "hitRate": 0.6}
    assert answer["tables"]["agents"] == {"keys": 3, "hits": None, "misses": None, "hitRate": None}


def test_queues_stats() -> None:
    answer = body(operations.queues_stats(ALL))
    assert list(answer) == ["streams", "sender", "history", "dead-letters"]
    # Of the five dead letters one was a record that held no items.
    assert answer["streams"] == {"waiting": 4, "active": 3, "completed": 96, "failed": 5, "successRate": 0.9505}
    assert answer["sender"] == {"waiting": 4, "active": 2, "completed": 80, "failed": 2, "successRate": 0.9756}
    assert answer["history"] == {"waiting": 0, "active": 5, "completed": 300, "failed": 0, "successRate": 1.0}
    assert answer["dead-letters"] == {"waiting": 0, "active": None, "completed": None, "failed": None, "successRate": None}


def test_database_stats() -> None:
    def operation(table: str, name: str, count: int, max_ms: float) -> Operation:
        return Operation(table=table, operation=name, count=count, per_second=count / 10, p50_ms=1.0, p99_ms=2.0, max_ms=max_ms)

    found = [operation("messages", "read", 20, 60.0), operation("messages", "write", 30, 50.0), operation("sends", "scan", 5, 900.0)]
    answer = body(operations.database_stats(Statistics(latency_ms=0.7, operations=found, mebibytes={"sends": 2, "messages": 8})))
    assert answer["performance"] == {"latencyMs": 0.7, "reads": 25, "writes": 30, "readsPerSecond": 2.5, "writesPerSecond": 3.0}
    assert [(each["table"], each["operation"], each["maxMs"]) for each in answer["slowQueries"]] == [
        ("sends", "scan", 900.0),
        ("messages", "read", 60.0),
    ]
    assert answer["tables"] == {
        "messages": {"reads": 20, "writes": 30, "mebibytes": 8},
        "sends": {"reads": 5, "writes": 0, "mebibytes": 2},
    }
