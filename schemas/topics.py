"""The one table of topics: what each holds, who writes it, who reads it, how it is kept.

`ottla topics create` makes exactly these, a test draws the README's flow from them, and no other place spells a topic's name.
"""

from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000
MIB = 1 << 20

RAW_RETENTION_DAYS = 14
RAW_RETENTION_MS = RAW_RETENTION_DAYS * DAY_MS
"""How long [raw], and all that it leads to, is kept unless the settings say something else."""

# A webhook body has at most 4 MiB; one conversation's part of it, with metadata, fits into the record size of [raw].
BODY_BYTES_MAX = 4 * MIB
RECORD_BYTES_MAX = 6 * MIB

PRIORITIES = ("critical", "high", "normal", "bulk")
"""From first to last: a higher priority may overtake a lower one."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic: its record's key and event, its producers and consumers, and how it is kept."""

    name: str
    key: str
    event: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_ms: int | None  # None: compacted, the newest record of each key is kept
    record_bytes_max: int = MIB
    partitioning: Literal["conversation", "single"] = "conversation"  # as many as OTTLA_PARTITIONS says, or one
    purpose: str

    def named(self, prefix: str) -> str:
        """Return the name on the broker."""
        return prefix + self.name

    def kept_ms(self, raw_days: int) -> int | None:
        """Return how long it is kept where [raw] is kept for so many days; None: the newest record of each key is.

        What [raw] leads to is kept at least as long, and never less than by itself: a replay reads both.
        """
        if self.name == "raw":
            return raw_days * DAY_MS
        return max(RAW_RETENTION_MS, raw_days * DAY_MS) if self.retention_ms == RAW_RETENTION_MS else self.retention_ms


RAW = Topic(
    name="raw",
    key="conversation",
    event="WebhookPart, RoutedPart, CanaryEvent",
    producers=("ingress", "streams"),
    consumers=("streams",),
    retention_ms=RAW_RETENTION_MS,
    record_bytes_max=5 * MIB,
    purpose="one conversation's part of a webhook body, as received; items of it that were keyed again",
)
STATUS = Topic(
    name="status",
    key="conversation",
    event="WebhookPart",
    producers=("ingress",),
    consumers=("sender", "history"),
    retention_ms=RAW_RETENTION_MS,
    record_bytes_max=5 * MIB,
    purpose="delivery statuses, in the partition of the send they speak of",
)
INBOUND = Topic(
    name="inbound",
    key="conversation",
    event="InboundEvent, LinkedEvent",
    producers=("streams",),
    consumers=("history",),
    retention_ms=RAW_RETENTION_MS,
    record_bytes_max=5 * MIB,
    purpose="every distinct item of [raw] with the decision that was made about it; which keys are one person's",
)
OUTBOUND = {
    priority: Topic(
        name=f"outbound-{priority}",
        key="conversation",
        event="OutboundEvent, CanaryEvent" if priority == "high" else "OutboundEvent",
        producers=("streams", "ingress"),
        consumers=("sender", "history"),
        retention_ms=RAW_RETENTION_MS,
        purpose=f"messages to send, {priority} priority",
    )
    for priority in PRIORITIES
}
SENT = Topic(
    name="sent",
    key="conversation",
    event="SentEvent, CanaryEvent",
    producers=("sender",),
    consumers=("history",),
    retention_ms=RAW_RETENTION_MS,
    purpose="what became of each send: accepted, rejected or unknown, with the text that left",
)
LEDGER = Topic(
    name="ledger",
    key="conversation",
    event="PlannedEvent",
    producers=("sender",),
    consumers=("sender",),
    retention_ms=35 * DAY_MS,
    record_bytes_max=2 * MIB,
    purpose="sends that wait long: for a pause of their pair or number, for a status, or behind such a one",
)
DEAD_LETTERS = Topic(
    name="dead-letters",
    key="conversation",
    event="original bytes",
    producers=("streams", "sender", "history"),
    consumers=("dead-letters",),
    retention_ms=35 * DAY_MS,
    record_bytes_max=RECORD_BYTES_MAX,
    purpose="what could not be handled: the original bytes, with cause and origin in the headers",
)
TENANTS = Topic(
    name="tenants",
    key="id",
    event="Tenant",
    producers=("ingress",),
    consumers=("ingress", "streams", "sender"),
    retention_ms=None,
    partitioning="single",
    purpose="tenants, the newest record of each id",
)
ACCOUNTS = Topic(
    name="accounts",
    key="id",
    event="Account",
    producers=("ingress",),
    consumers=("ingress", "streams", "sender"),
    retention_ms=None,
    partitioning="single",
    purpose="a tenant's numbers on a channel, the newest record of each id",
)
AGENTS = Topic(
    name="agents",
    key="id",
    event="Agent",
    producers=("ingress",),
    consumers=("ingress", "streams"),
    retention_ms=None,
    partitioning="single",
    purpose="AI agents, the newest record of each id",
)
AUDIT = Topic(
    name="audit",
    key="id",
    event="AuditEvent",
    producers=("ingress",),
    consumers=("ingress",),
    retention_ms=400 * DAY_MS,
    partitioning="single",
    purpose="what people had done on the pages, over HTTP or by command: who, what, to what, when",
)
CONVERSATIONS_CHANGELOG = Topic(
    name="streams-conversations-changelog",
    key="conversation",
    event="ConversationRow",
    producers=("streams",),
    consumers=("streams",),
    retention_ms=None,
    record_bytes_max=5 * MIB,
    purpose="the streams' table, the newest row of each conversation",
)

CONFIG_TOPICS = (TENANTS, ACCOUNTS, AGENTS)
TOPICS = (RAW, STATUS, INBOUND, *OUTBOUND.values(), SENT, LEDGER, DEAD_LETTERS, *CONFIG_TOPICS, AUDIT, CONVERSATIONS_CHANGELOG)
"""Every topic of an installation."""


def markdown_table() -> str:
    """Return the table as Markdown; ARCHITECTURE.md holds it and a test compares the two (`python -m schemas.topics` prints it)."""
    rows = ["| topic | key | event | from | to | kept | what it holds |", "|---|---|---|---|---|---|---|"]
    for topic in TOPICS:
        kept = "newest of each key" if topic.retention_ms is None else f"{topic.retention_ms // DAY_MS} days"
        producers, consumers = ", ".join(topic.producers), ", ".join(topic.consumers) or "-"
        rows.append(f"| `{topic.name}` | {topic.key} | {topic.event} | {producers} | {consumers} | {kept} | {topic.purpose} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201  # that is what it is run for
