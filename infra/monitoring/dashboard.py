"""The Grafana dashboard as a table of rows and panels: `python -m infra.monitoring.dashboard` writes it to dashboard.json.

One row for each promise, stage and dependency. The data source is a variable, so the file can be imported anywhere.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

PATH = Path(__file__).with_name("dashboard.json")

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_HEIGHT = 7


class Query(NamedTuple):
    """One line of a panel: what is asked, and how its series are named."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """A panel: `must_be_zero` ones are one red or green number, others are lines over time in `unit` (Grafana's names)."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    must_be_zero: bool = False
    help: str = ""


def _p(metric: str, by: str = "", where: str = "") -> tuple[Query, ...]:
    """Return the median and the 99th percentile of a histogram, by a label if one is named."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    rates = f"sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval]))"
    return tuple(Query(f"histogram_quantile({q}, {rates})", f"{legend}{name}") for q, name in ((0.5, "p50"), (0.99, "p99")))


def _rate(metric: str, by: str, where: str = "") -> tuple[Query, ...]:
    return (
        Query(f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))", " ".join(f"{{{{{each.strip()}}}}}" for each in by.split(","))),
    )


def _zero(title: str, expr: str, help_: str) -> Panel:
    return Panel(title, (Query(f"{expr} or vector(0)", ""),), must_be_zero=True, help=help_)


def _stage(name: str) -> tuple[Panel, ...]:
    where = f'{{stage="{name}"}}'
    return (
        Panel("Events by outcome", _rate("ottla_events_total", "outcome", where), "ops"),
        Panel("Duration", _p("ottla_event_stage_duration_seconds", where=where), "s"),
        Panel(
            "In flight, and done again",
            (
                Query(f"sum(ottla_events_in_flight{where})", "in flight"),
                Query(f"sum(ottla_conversations_left_in_log{where})", "conversations of which more is left in the log"),
                Query(f"sum by (cause) (rate(ottla_event_retries_total{where}[$__rate_interval]))", "done again: {{cause}} /s"),
            ),
        ),
        Panel(
            "Lag",
            (Query(f'max by (topic) (ottla_consumer_lag_seconds{{group="{name}"}})', "{{topic}}"),),
            "s",
            help="Age of the oldest record that is not handled yet.",
        ),
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Promises: what must be 0",
        (
            _zero("Order violations", "sum(increase(ottla_order_violations_total[$__range]))", "Offsets that went back."),
            _zero("Duplicate sends", "sum(increase(ottla_duplicate_sends_total[$__range]))", "Sends with two platform ids."),
            _zero(
                "Lost to retention",
                "sum(max by (group, topic) (ottla_consumer_lost_messages))",
                "Records that were deleted before they were handled.",
            ),
            _zero(
                "Groups not working",
                'sum(max by (group, topic, state) (ottla_consumer_group_state{state=~"STOP|STALL|REWIND"}))',
                "Groups and topics in state STOP, STALL or REWIND.",
            ),
            _zero("Dead letters", "sum(increase(ottla_dead_letters_total[$__range]))", "Events that could not be handled."),
            _zero(
                "Unknown sends",
                'sum(increase(ottla_sends_total{outcome="unknown"}[$__range]))',
                "Sends of which nobody knows whether they arrived: parked and listed.",
            ),
        ),
    ),
    (
        "Nothing accepted is lost: webhooks",
        (
            Panel("Webhooks by answer", _rate("ottla_webhooks_total", "status"), "ops"),
            Panel("Until the answer", _p("ottla_webhook_duration_seconds"), "s"),
            Panel("Records not acknowledged", _rate("ottla_produce_errors_total", "topic"), "ops"),
            Panel("Records on their way to the log", (Query("sum by (job) (ottla_producer_queue_records)", "{{job}}"),)),
        ),
    ),
    (
        "The way is open: canaries",
        (
            Panel(
                "Since the last one",
                (Query("time() - min by (stage) (max by (stage, partition) (ottla_canary_last_seen_timestamp_seconds))", "{{stage}}"),),
                "s",
                help="In the partition that waits longest. The first of ingress, streams, sender, history that is late is where it stops.",
            ),
            Panel("Whole way", _p("ottla_canary_duration_seconds", by="stage"), "s"),
            Panel("Sent every", (Query("max(ottla_canary_interval_seconds)", "interval"),), "s"),
        ),
    ),
    (
        "Topics and groups",
        (
            Panel("In", (Query("max by (topic) (rate(ottla_topic_end_offsets[$__rate_interval]))", "{{topic}}"),), "ops"),
            Panel(
                "Out",
                (Query("max by (group, topic) (rate(ottla_consumer_committed_offsets[$__rate_interval]))", "{{group}} {{topic}}"),),
                "ops",
            ),
            Panel("Unprocessed", (Query("max by (group, topic) (ottla_consumer_lag_messages)", "{{group}} {{topic}}"),)),
            Panel("Oldest unprocessed", (Query("max by (group, topic) (ottla_consumer_lag_seconds)", "{{group}} {{topic}}"),), "s"),
            Panel("States", (Query("max by (group, topic, state) (ottla_consumer_group_state) == 1", "{{group}} {{topic}} {{state}}"),)),
            Panel(
                "Until retention deletes",
                (Query("min by (group, topic) (ottla_consumer_retention_left_seconds)", "{{group}} {{topic}}"),),
                "s",
            ),
            Panel(
                "Skew",
                (Query("max by (topic) (ottla_consumer_skew_ratio)", "{{topic}}"),),
                help="Share of the busiest partition times their number: 1 is even.",
            ),
        ),
    ),
    ("Streams", _stage("streams")),
    (
        "Streams: table",
        (
            Panel(
                "Rows found",
                (
                    Query(
                        'sum(rate(ottla_table_reads_total{result="hit"}[$__rate_interval]))'
                        " / sum(rate(ottla_table_reads_total[$__rate_interval]))",
                        "hit rate",
                    ),
                ),
                "percentunit",
                help="A miss is a conversation that was not known.",
            ),
            Panel("Rows written", _rate("ottla_table_writes_total", "table"), "ops"),
            Panel("Rows", (Query("sum by (table) (ottla_table_keys)", "{{table}}"),)),
            Panel(
                "Recovery",
                (
                    Query("sum by (table) (ottla_table_recovery_remaining_records)", "{{table}} to be read"),
                    Query("sum by (table) (rate(ottla_table_restored_records_total[$__rate_interval]))", "{{table}} read /s"),
                ),
            ),
            Panel("Recovery took", _p("ottla_table_recovery_duration_seconds"), "s"),
        ),
    ),
    (
        "Streams: agents",
        (
            Panel("Turns by outcome", _rate("ottla_agent_duration_seconds_count", "kind, outcome"), "ops"),
            Panel("Duration", _p("ottla_agent_duration_seconds", by="kind"), "s"),
            Panel("Tokens", _rate("ottla_agent_tokens_total", "kind, direction"), "ops"),
        ),
    ),
    ("Sender", _stage("sender")),
    (
        "Sender: the platform",
        (
            Panel("Sends by outcome", _rate("ottla_sends_total", "outcome"), "ops"),
            Panel(
                "Accepted",
                (
                    Query(
                        'sum(rate(ottla_sends_total{outcome="accepted"}[$__rate_interval]))'
                        ' / sum(rate(ottla_sends_total{outcome=~"accepted|rejected|unknown"}[$__rate_interval]))',
                        "share",
                    ),
                ),
                "percentunit",
            ),
            Panel("From message to accepted answer", _p("ottla_reply_duration_seconds"), "s"),
            Panel("One call", _p("ottla_send_duration_seconds", by="outcome"), "s"),
            Panel("Repeated, by cause", _rate("ottla_send_retries_total", "cause"), "ops"),
            Panel("Waiting", (Query("sum by (place) (ottla_sends_waiting)", "{{place}}"), Query("sum(ottla_pauses)", "throttled"))),
            Panel(
                "Lost answers",
                (
                    Query("sum(rate(ottla_sends_settled_total[$__rate_interval]))", "told by a status"),
                    Query("sum(rate(ottla_sends_resent_total[$__rate_interval]))", "sent once more"),
                    Query('sum(rate(ottla_sends_total{outcome="unknown"}[$__rate_interval]))', "parked"),
                ),
                "ops",
            ),
        ),
    ),
    (
        "History",
        (*_stage("history"), Panel("Rows written", (Query("sum(rate(ottla_history_rows_total[$__rate_interval]))", "rows"),), "ops")),
    ),
    ("Dead letters", (*_stage("dead-letters"), Panel("By stage and cause", _rate("ottla_dead_letters_total", "stage, cause"), "ops"))),
    (
        "Database",
        (
            Panel("Statements", _rate("ottla_database_duration_seconds_count", "statement"), "ops"),
            Panel("Duration", _p("ottla_database_duration_seconds", by="statement"), "s"),
            Panel("Over half a second", _rate("ottla_database_slow_statements_total", "statement"), "ops"),
            Panel("Errors", _rate("ottla_database_errors_total", "statement, error"), "ops"),
            Panel("Under way", (Query("sum by (job) (ottla_database_in_flight)", "{{job}}"),)),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Processor",
                (Query('rate(process_cpu_seconds_total{job=~"ottla-.*"}[$__rate_interval])', "{{job}} {{instance}}"),),
                "percentunit",
            ),
            Panel("Memory", (Query('process_resident_memory_bytes{job=~"ottla-.*"}', "{{job}} {{instance}}"),), "bytes"),
            Panel("Up since", (Query('time() - process_start_time_seconds{job=~"ottla-.*"}', "{{job}} {{instance}}"),), "s"),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(_panel(len(panels) + 1, "row", title, x=0, y=y, width=_COLUMNS, height=1) | {"collapsed": False, "panels": []})
        y += 1
        x = 0
        for panel in row:
            width, height = (4, 4) if panel.must_be_zero else (8 if len(row) % 3 == 0 else 6, _HEIGHT)
            if x + width > _COLUMNS:
                x, y = 0, y + height
            panels.append(_filled(_panel(len(panels) + 1, "timeseries", panel.title, x=x, y=y, width=width, height=height), panel))
            x += width
        y += height
    return {
        "title": "Ottla",
        "uid": "ottla",
        "description": "Promises, stages and dependencies of an Ottla installation.",
        "tags": ["ottla"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "graphTooltip": 1,
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(number: int, kind: Literal["row", "timeseries"], title: str, *, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number, "type": kind, "title": title, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _filled(made: dict[str, Any], panel: Panel) -> dict[str, Any]:
    made |= {
        "description": panel.help,
        "datasource": _DATASOURCE,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
    if panel.must_be_zero:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]
        made["type"] = "stat"
        made["fieldConfig"]["defaults"] |= {"thresholds": {"mode": "absolute", "steps": steps}, "decimals": 0}
        made["options"] = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
        for target in made["targets"]:
            target["instant"] = True
    else:
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return made


def main() -> None:
    """Write the dashboard."""
    PATH.write_text(as_text())


def as_text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    main()
