"""The table of topics: named, partitioned and kept as the flow needs it."""

import re

import pytest

from schemas.topics import (
    BODY_BYTES_MAX,
    CONFIG_TOPICS,
    CONVERSATIONS_CHANGELOG,
    DAY_MS,
    DEAD_LETTERS,
    INBOUND,
    MIB,
    OUTBOUND,
    PRIORITIES,
    RAW,
    SENT,
    STATUS,
    TOPICS,
    Topic,
)

_MESSAGE_TOPICS = (RAW, STATUS, INBOUND, *OUTBOUND.values(), SENT)


def test_names_are_in_kebab_case_and_unique() -> None:
    """So is every name with a prefix."""
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    assert RAW.named("t1-") == "t1-raw"


def test_message_topics_have_the_same_partitions() -> None:
    """A conversation has one partition number everywhere, so that its status meets its claim; only tables of configuration have one."""
    assert {topic.partitioning for topic in (*_MESSAGE_TOPICS, DEAD_LETTERS, CONVERSATIONS_CHANGELOG)} == {"conversation"}
    assert {topic.partitioning for topic in CONFIG_TOPICS} == {"single"}


@pytest.mark.parametrize("topic", _MESSAGE_TOPICS, ids=lambda topic: topic.name)
def test_messages_are_kept_as_long_as_raw(topic: Topic) -> None:
    """What came of a record can be seen for as long as the record itself: 14 days, longer than the platform sends it again."""
    assert topic.retention_ms is not None
    assert RAW.retention_ms is not None
    assert topic.retention_ms >= RAW.retention_ms >= 14 * DAY_MS


@pytest.mark.parametrize("topic", _MESSAGE_TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize(("days", "raw_days", "least_days"), [(14, 14, 14), (9, 9, 14), (30, 30, 30)])
def test_retention_is_a_setting(topic: Topic, days: int, raw_days: int, least_days: int) -> None:
    """[raw] is kept as long as is said, all that it leads to at least as long, and never less than by itself."""
    assert topic.kept_ms(days) == (raw_days if topic is RAW else least_days) * DAY_MS


def test_the_setting_is_of_messages_alone() -> None:
    """Dead letters and tables are kept as ever."""
    assert (DEAD_LETTERS.kept_ms(90), CONVERSATIONS_CHANGELOG.kept_ms(90)) == (35 * DAY_MS, None)


def test_dead_letters_are_kept_longest() -> None:
    """35 days, to redrive them."""
    assert DEAD_LETTERS.retention_ms == 35 * DAY_MS


@pytest.mark.parametrize("topic", [*CONFIG_TOPICS, CONVERSATIONS_CHANGELOG], ids=lambda topic: topic.name)
def test_tables_are_compacted(topic: Topic) -> None:
    """The newest record of each key is kept for ever."""
    assert topic.retention_ms is None


def test_records_fit_where_they_go() -> None:
    """A body fits into a part, a part into a dead letter with its headers."""
    assert BODY_BYTES_MAX < RAW.record_bytes_max == STATUS.record_bytes_max == 5 * MIB
    assert INBOUND.record_bytes_max >= RAW.record_bytes_max
    assert DEAD_LETTERS.record_bytes_max > max(topic.record_bytes_max for topic in TOPICS if topic is not DEAD_LETTERS)


def test_there_is_an_outbound_topic_for_each_priority() -> None:
    """From critical to bulk, in this order."""
    assert [topic.name for topic in OUTBOUND.values()] == [f"outbound-{priority}" for priority in PRIORITIES]
    assert PRIORITIES == ("critical", "high", "normal", "bulk")


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_says_what_it_is_for(topic: Topic) -> None:
    """Who writes it, what it holds; all but the dead letters are read by somebody."""
    assert topic.producers
    assert topic.consumers or topic is DEAD_LETTERS
    assert topic.purpose
    assert topic.event
