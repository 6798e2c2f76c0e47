"""Every metric of every role, named in this one place: what /metrics shows, and all that the dashboard and the alerts may use.

Base units. Labels have few values, known beforehand: no phone number, conversation, id or text is ever one. A counter that an alert
watches is there with 0 before anything happened (`labels(...)` without `inc`), for Prometheus sees no increase in a series' first value.
"""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# In.
WEBHOOKS = Counter("ottla_webhooks_total", "Webhook requests by answer", ["status"])
WEBHOOK_SECONDS = Histogram("ottla_webhook_duration_seconds", "From the request's first byte to our answer", buckets=_SECONDS)

# Stages and sinks; `stage` is streams or the name of a sink.
EVENTS = Counter("ottla_events_total", "Events by stage or sink and by what became of them", ["stage", "outcome"])
EVENT_SECONDS = Histogram(
    "ottla_event_stage_duration_seconds",
    "Work on what a stage or sink takes at once: an event, in history those of a conversation that had queued up",
    ["stage"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge("ottla_events_in_flight", "Events queued or being worked on in this process", ["stage"])
LEFT_IN_LOG = Gauge("ottla_conversations_left_in_log", "Conversations of which so much waits that the rest is left in the log", ["stage"])
EVENT_RETRIES = Counter("ottla_event_retries_total", "Work done again: after an error, or because a dependency is away", ["stage", "cause"])
HISTORY_ROWS = Counter("ottla_history_rows_total", "Rows written to history")
DEAD_LETTERS = Counter("ottla_dead_letters_total", "Events that could not be handled", ["stage", "cause"])
ORDER_VIOLATIONS = Counter("ottla_order_violations_total", "Times a partition or a lane saw its offsets go back; must stay 0", ["stage"])

# Agents.
AGENT_SECONDS = Histogram(
    "ottla_agent_duration_seconds",
    "One agent answering one turn; the outcome is answered, or why it did not",
    ["kind", "outcome"],
    buckets=_SECONDS,
)
AGENT_TOKENS = Counter("ottla_agent_tokens_total", "Tokens as the model's endpoint counts them", ["kind", "direction"])

# Out.
SENDS = Counter("ottla_sends_total", "Sends by outcome; unknown: nobody knows whether it arrived, parked and listed", ["outcome"])
SEND_SECONDS = Histogram(
    "ottla_send_duration_seconds", "One call of the platform, from the request to its answer", ["outcome"], buckets=_SECONDS
)
SEND_RETRIES = Counter("ottla_send_retries_total", "Attempts that were certainly not sent and are repeated", ["cause"])
SENDS_SETTLED = Counter("ottla_sends_settled_total", "Sends whose answer was lost and which a status told of")
SENDS_RESENT = Counter(
    "ottla_sends_resent_total", "Sends whose answer was lost and which were sent once more, marked, because that is asked for"
)
SENDS_WAITING = Gauge("ottla_sends_waiting", "Sends that wait in this process: for a status, a budget, or in [ledger]", ["place"])
DUPLICATE_SENDS = Counter("ottla_duplicate_sends_total", "Sends for which the platform has given two ids; must stay 0")
REPLY_SECONDS = Histogram(
    "ottla_reply_duration_seconds",
    "From a message's record in [raw] to the platform's acceptance of its answer",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 300),
)
PAUSES = Gauge("ottla_pauses", "Pairs, numbers and apps that the platform throttled and whose pauses are remembered")

# Canaries.
CANARY_SECONDS = Histogram(
    "ottla_canary_duration_seconds", "From a canary's production by the ingress to this stage or sink", ["stage"], buckets=_SECONDS
)
CANARY_LAST_SEEN = Gauge(
    "ottla_canary_last_seen_timestamp_seconds", "When the newest canary of a partition came through here", ["stage", "partition"]
)
CANARY_INTERVAL = Gauge("ottla_canary_interval_seconds", "How often this ingress sends canaries; 0: never")

# Groups and topics, as the ingress sees them at the broker.
_GROUP = ["group", "topic"]
GROUP_LAG_MESSAGES = Gauge("ottla_consumer_lag_messages", "Records a group has not handled yet; absent while the broker is away", _GROUP)
GROUP_LAG_SECONDS = Gauge("ottla_consumer_lag_seconds", "Age of the oldest record that a group has not handled yet", _GROUP)
GROUP_STATE = Gauge("ottla_consumer_group_state", "1 for the state a group is in, by Burrow's rules", [*_GROUP, "state"])
GROUP_RETENTION_LEFT_SECONDS = Gauge(
    "ottla_consumer_retention_left_seconds", "Until retention may delete the oldest record that a group has not handled yet", _GROUP
)
GROUP_LOST_MESSAGES = Gauge("ottla_consumer_lost_messages", "Records deleted before a group handled them; must stay 0", _GROUP)
GROUP_OFFSETS = Gauge(
    "ottla_consumer_committed_offsets", "Sum of a group's committed offsets in a topic; how fast it grows is the rate out", _GROUP
)
GROUP_SKEW = Gauge("ottla_consumer_skew_ratio", "Share of a topic's busiest partition, times their number: 1 is even", _GROUP)
TOPIC_OFFSETS = Gauge("ottla_topic_end_offsets", "Sum of a topic's end offsets; how fast it grows is the rate in", ["topic"])

# The log's producer.
PRODUCE_ERRORS = Counter("ottla_produce_errors_total", "Records that were not acknowledged", ["topic"])
PRODUCER_QUEUE = Gauge("ottla_producer_queue_records", "Records that wait in this process to be acknowledged")

# The streams' table.
TABLE_READS = Counter("ottla_table_reads_total", "Rows asked for; a miss is a conversation that was not known", ["table", "result"])
TABLE_WRITES = Counter("ottla_table_writes_total", "Rows written, acknowledged by the changelog", ["table"])
TABLE_KEYS = Gauge(
    "ottla_table_keys", "Rows in this process, as RocksDB estimates them: what was written again lately may count twice", ["table"]
)
TABLE_RESTORED = Counter("ottla_table_restored_records_total", "Changelog records read back after a start or a rebalance", ["table"])
TABLE_REMAINING = Gauge("ottla_table_recovery_remaining_records", "Changelog records that are yet to be read back", ["table"])
TABLE_RECOVERY_SECONDS = Histogram(
    "ottla_table_recovery_duration_seconds",
    "From taking partitions to having their rows",
    ["table"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

# The database; `statement` is a verb and a table, such as `insert messages`; of a batch it is that of its largest write.
DATABASE_SECONDS = Histogram(
    "ottla_database_duration_seconds", "Statements as their caller waits for them", ["statement"], buckets=_SECONDS
)
DATABASE_SLOW = Counter(
    "ottla_database_slow_statements_total", "Statements that took over half a second; each is in the log", ["statement"]
)
DATABASE_ERRORS = Counter("ottla_database_errors_total", "Statements that failed", ["statement", "error"])
DATABASE_IN_FLIGHT = Gauge("ottla_database_in_flight", "Statements under way in this process, waiting ones included")
