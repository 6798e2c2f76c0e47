"""The consumer groups, drawn from the table of topics: who reads what, which role runs it, and how far back it may be set."""

from dataclasses import dataclass

from schemas.topics import DAY_MS, TOPICS, Topic

SESSION_S = 7.0
"""Seconds without a heartbeat until a member's partitions are given to others; one that was killed should be back before that."""

HORIZON_MS = 8 * DAY_MS
"""What came in is remembered for this long: what is older and handled again could have its effects again."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A consumer group: its name, the role (`ottla run ROLE`) whose processes are its members, and the topics that it commits."""

    name: str
    role: str
    topics: tuple[Topic, ...]

    def named(self, prefix: str) -> str:
        """Return the name on the broker."""
        return prefix + self.name


def _group(name: str, role: str) -> Group:
    # Compacted topics are read whole by whoever needs them, without a group.
    return Group(
        name=name, role=role, topics=tuple(topic for topic in TOPICS if name in topic.consumers and topic.retention_ms is not None)
    )


GROUPS = {
    name: _group(name, role)
    for name, role in (("streams", "streams"), ("sender", "sinks"), ("history", "sinks"), ("dead-letters", "sinks"))
}
"""Every group of an installation, in the order of the flow: what one writes, a later one reads."""
