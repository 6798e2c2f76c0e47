"""Every metric of every role, named in this one place. Base units; no phone numbers or conversations in labels."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

WEBHOOKS = Counter("ottla_webhooks_total", "Webhook requests by answer", ["status"])
WEBHOOK_SECONDS = Histogram("ottla_webhook_duration_seconds", "From the request's first byte to our answer", buckets=_SECONDS)
EVENTS = Counter("ottla_events_total", "Events by stage or sink and by what became of them", ["stage", "outcome"])
EVENT_SECONDS = Histogram("ottla_event_stage_duration_seconds", "Work on one event in a stage or sink", ["stage"], buckets=_SECONDS)
IN_FLIGHT = Gauge("ottla_events_in_flight", "Events queued or being worked on in this process", ["stage"])
DEAD_LETTERS = Counter("ottla_dead_letters_total", "Events that could not be handled", ["stage", "cause"])
SENDS = Counter("ottla_sends_total", "Sends by outcome", ["outcome"])
DUPLICATE_SENDS = Counter("ottla_duplicate_sends_total", "Sends for which the platform has given two ids; must stay 0")
SEND_RETRIES = Counter("ottla_send_retries_total", "Attempts that were certainly not sent and are repeated", ["cause"])
AGENT_SECONDS = Histogram("ottla_agent_duration_seconds", "One agent answering one turn", ["kind", "outcome"], buckets=_SECONDS)
CANARY_SECONDS = Histogram(
    "ottla_canary_duration_seconds", "From a canary's production by the ingress to this stage or sink", ["stage"], buckets=_SECONDS
)
CANARY_LAST_SEEN = Gauge(
    "ottla_canary_last_seen_timestamp_seconds", "When the newest canary of a partition came through here", ["stage", "partition"]
)
ORDER_VIOLATIONS = Counter("ottla_order_violations_total", "Times a lane saw its offsets go back; must stay 0", ["stage"])
_GROUP = ["group", "topic"]
GROUP_LAG_MESSAGES = Gauge("ottla_consumer_lag_messages", "Records a group has not handled yet; absent while the broker is away", _GROUP)
GROUP_LAG_SECONDS = Gauge("ottla_consumer_lag_seconds", "Age of the oldest record that a group has not handled yet", _GROUP)
GROUP_STATE = Gauge("ottla_consumer_group_state", "1 for the state a group is in, by Burrow's rules", [*_GROUP, "state"])
GROUP_RETENTION_LEFT_SECONDS = Gauge(
    "ottla_consumer_retention_left_seconds", "Until retention may delete the oldest record that a group has not handled yet", _GROUP
)
GROUP_LOST_MESSAGES = Gauge("ottla_consumer_lost_messages", "Records deleted before a group handled them; must stay 0", _GROUP)
