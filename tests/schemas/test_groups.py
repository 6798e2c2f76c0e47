"""schemas.groups: the one table of consumer groups is what the roles really read."""

import importlib

import pytest

from schemas.groups import GROUPS, HORIZON_MS
from schemas.topics import AUDIT, RAW, TOPICS
from sinks.base import Sink
from sinks.dead_letters_to_history import DeadLettersToHistory
from sinks.events_to_history import History
from sinks.outbound_to_platform import OutboundToPlatform
from streams.rows import REMEMBERED_MS


@pytest.mark.parametrize("sink", [OutboundToPlatform, History, DeadLettersToHistory])
def test_each_sink_reads_the_topics_of_its_group(sink: type[Sink]) -> None:
    """A topic that a sink reads and the table does not name would have no lag."""
    group = GROUPS[sink.group]
    assert set(sink.topics) == set(group.topics)
    assert importlib.import_module(f"{group.role}.run")


def test_streams_read_raw_and_everybody_is_there() -> None:
    """Each topic that is deleted by age has a group that reads it, but the one that people read; whoever reads one is a group."""
    assert GROUPS["streams"].topics == (RAW,)
    kept_by_age = {topic for topic in TOPICS if topic.retention_ms is not None and topic is not AUDIT}
    assert {topic for group in GROUPS.values() for topic in group.topics} == kept_by_age
    assert {name for topic in kept_by_age for name in topic.consumers} == set(GROUPS)


def test_the_horizon_is_what_the_streams_remember() -> None:
    """A group may be set back as far as what came in is remembered, and what is kept reaches further."""
    assert HORIZON_MS == REMEMBERED_MS
    assert all((topic.retention_ms or 0) > HORIZON_MS for group in GROUPS.values() for topic in group.topics)
