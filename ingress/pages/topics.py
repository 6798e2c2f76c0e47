"""/topics: what each topic is for and how far its readers are, and each one's partitions and records, live; for the administrator."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.reading import EVERY_TENANT
from infra.cassandra.session import Cassandra
from infra.decoded import SECRET_TOPICS
from infra.errors import NotFoundError
from infra.kafka.admin import KafkaUnreachableError
from infra.lag.figures import skew
from ingress.pages.lag_rows import lag_rows
from ingress.pages.live import Item, version_of
from ingress.pages.looking import Look, Seen, TooLongError, look_for, read_look
from ingress.pages.records import LINKED
from ingress.pages.render import error_page, page, piece
from ingress.pages.shown_records import ShownRecord
from schemas.groups import GROUPS
from schemas.topics import DAY_MS, TOPICS, Topic

Told = Mapping[str, Any]
"""What is said of a topic: its entry in the table of topics, with figures of its groups."""

_BY_NAME = {topic.name: topic for topic in TOPICS}
_GROUPED = frozenset(topic.name for group in GROUPS.values() for topic in group.topics)
_HOUR_S = 3600
_SKEWED_PER_S = 1.0


async def show_topics(request: Request) -> Response:
    """Show every topic with its groups."""
    if request.state.tenant != EVERY_TENANT:
        return refused(request)
    rows, away = await lag_rows(request.app.state.lag)
    told = [(each, version_of(each)) for each in _told(rows)]
    return page(request, "topics.html", topics=told, away=away)


async def newest_topics(request: Request, _: Cassandra | None) -> list[Item]:
    """Return the topics as they change."""
    if request.state.tenant != EVERY_TENANT:
        return []
    rows, _away = await lag_rows(request.app.state.lag)

    def item(each: Told) -> Item:
        version = version_of(each)
        return Item(f"k-{each['name']}", version, lambda: piece(request, "topic_row.html", "topic_row", each, version))

    return [item(each) for each in _told(rows)]


async def show_topic(request: Request) -> Response:
    """Show a topic's partitions, and records of it from the place that the query names."""
    if request.state.tenant != EVERY_TENANT:
        return refused(request)
    topic = _BY_NAME.get(request.path_params["name"])
    if topic is None:
        return error_page(request, 404, "There is no such topic", "Choose one of the list of topics.")
    look = read_look(request.query_params, topic, now_ms=request.app.state.clock.now_ms())
    rows, away = await lag_rows(request.app.state.lag, partitions=True)
    partitions = partitions_of(topic, rows)
    found, problem, status = Seen([], "", is_more=False), look.problem, 422 if look.problem else 200
    if not problem:
        try:
            found = await look_for(request.app.state.settings, look)
        except NotFoundError as error:
            problem, status = str(error), 404
        except (KafkaUnreachableError, TooLongError) as error:
            problem, status = str(error), 503
    said: dict[str, Any] = {
        "topic": _topic(0, topic, [row for row in rows if row["topic"] == topic.name]),
        "is_linked": topic.name in LINKED,
        "is_single": topic.partitioning == "single",
        "is_secret": topic.name in SECRET_TOPICS,
        "partitions": (partitions, version_of(partitions)),
        "away": away,
        "look": look,
        "records": _listed(found.records, look),
        "problem": problem,
        "more": {**look.query, "after": found.after} if found.is_more else None,
        "live": live_of(look, found.after) if not problem else "",
        "twin": look.twin,
    }
    return page(request, "topic.html", status=status, **said)


def refused(request: Request) -> Response:
    """Return the page for tenants."""
    return error_page(request, 403, "Admin key needed", "Topics are everybody's: log in with the admin key.")


async def partitions_item(request: Request, topic: Topic) -> Item | None:
    """Return the table of a topic's partitions; None while it is not known, so that what was seen last stays."""
    rows, _ = await lag_rows(request.app.state.lag, partitions=True)
    told = partitions_of(topic, rows)
    version = version_of(told)
    if not told["rows"]:
        return None
    return Item("k-partitions", version, lambda: piece(request, "topic_row.html", "partition_table", told, version))


def live_of(look: Look, since: str) -> str:
    """Return where the records that come after a look can be followed; empty if it is not at the end of the topic."""
    query = {"view": "records", "topic": look.topic.name, **look.query, "since": since}
    return f"/events?{urlencode(query)}" if look.is_at_end else ""


def partitions_of(topic: Topic, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a topic's partitions, each with how far every group is in it, from rows that have their partitions."""
    ours = [row for row in rows if row["topic"] == topic.name]
    table: dict[int, dict[str, Any]] = {}
    for row in ours:
        for each in row["partitions"]:
            found = table.setdefault(each["partition"], {"begin": 0, "end": 0, "in_per_second": each["in_per_second"], "groups": {}})
            # Groups were asked about a moment apart: the later answer counts.
            found["begin"], found["end"] = max(found["begin"], each["begin"]), max(found["end"], each["end"])
            found["groups"][row["group"]] = {
                name: each[name] for name in ("state", "committed", "lag_messages", "lag_seconds", "lost_messages", "owner")
            }
    rates = [each["in_per_second"] for each in table.values()]
    return {
        "groups": [{"name": row["group"], "complete": row["complete"]} for row in ours],
        "rows": [{"partition": number} | table[number] for number in sorted(table)],
        # Of a few records one is always the most.
        "skew": skew(rates) if sum(rate or 0 for rate in rates) >= _SKEWED_PER_S else None,
    }


def _listed(records: Sequence[ShownRecord], look: Look) -> list[ShownRecord]:
    """Return records as they are listed: the newest first where one looks at the end, from the place on where one names it."""
    return list(reversed(records)) if look.is_at_end else list(records)


def _told(rows: list[dict[str, Any]]) -> list[Told]:
    """Return what is said of each topic: the table of topics, with the rows of its groups."""
    return [_topic(number, topic, [row for row in rows if row["topic"] == topic.name]) for number, topic in enumerate(TOPICS)]


def _topic(number: int, topic: Topic, rows: list[dict[str, Any]]) -> Told:
    kept = "the newest of each key" if topic.retention_ms is None else f"{topic.retention_ms // DAY_MS} days"
    shown = ("group", "state", "complete", "lag_messages", "lag_seconds", "in_per_second", "out_per_second", "lost_messages")
    rounded = [{name: row[name] for name in shown} | {"retention_left_seconds": _hours(row["retention_left_seconds"])} for row in rows]
    return {
        "order": f"{number:03d}",
        "name": topic.name,
        "purpose": topic.purpose,
        "event": topic.event,
        "key": topic.key,
        "producers": ", ".join(topic.producers),
        "consumers": ", ".join(topic.consumers),
        "kept": kept,
        "is_grouped": topic.name in _GROUPED,
        "groups": rounded,
    }


def _hours(seconds: float | None) -> float | None:
    """Return seconds in whole hours, so that what hardly changes is not another one with every look; the last hour as it is."""
    return None if seconds is None else seconds if seconds < _HOUR_S else seconds // _HOUR_S * _HOUR_S


routes = [
    Route("/topics", show_topics, methods=["GET"]),
    Route("/topics/{name}", show_topic, methods=["GET"]),
]
