"""Topics on a real broker."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from infra.errors import UNSAFE
from infra.kafka import admin
from infra.kafka.admin import (
    KafkaUnreachableError,
    PartitionsChangedError,
    TopicsError,
    check_kafka,
    create_topics,
    list_topics,
    topic_config,
)
from infra.settings import Settings
from schemas.topics import ACCOUNTS, DAY_MS, DEAD_LETTERS, MIB, RAW, STATUS, TOPICS


def _config(settings: Settings, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    client = AdminClient({"bootstrap.servers": settings.kafka})
    described = client.describe_configs([resource])[resource].result()
    return {key: entry.value for key, entry in described.items()}


async def _until_config(settings: Settings, name: str, wanted: dict[str, str]) -> None:
    """Wait until the broker says so: it takes a change before it knows of it everywhere."""
    async with asyncio.timeout(60):
        while not wanted.items() <= (await asyncio.to_thread(_config, settings, name)).items():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)


def _make(settings: Settings, name: str, *, partitions: int, config: dict[str, str] | None = None) -> None:
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
    client = AdminClient({"bootstrap.servers": settings.kafka})
    client.create_topics([new])[name].result()


@pytest.fixture
def nowhere() -> Any:
    """Give an address on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_the_configuration_of_a_topic() -> None:
    """Retention, compaction and record size come from the table; two replicas must have a record as soon as there are three."""
    raw, accounts = topic_config(RAW, replication=3), topic_config(ACCOUNTS, replication=1)
    assert raw["cleanup.policy"] == "delete"
    assert int(raw["retention.ms"]) == RAW.retention_ms
    assert int(raw["max.message.bytes"]) > RAW.record_bytes_max == 5 * MIB
    assert raw["min.insync.replicas"] == "2"
    assert accounts["cleanup.policy"] == "compact"
    assert accounts["min.insync.replicas"] == "1"
    assert "retention.ms" not in accounts


def test_replicas_in_sync_are_raised_where_there_are_three() -> None:
    """What is acknowledged with one of them in sync is lost with one disk: also of a topic that somebody else made."""
    actual = topic_config(RAW, replication=1)
    row = admin.TopicOnBroker(topic=RAW, name="raw", partitions_wanted=3, partitions=3, replication=3, raw_days=7)
    (raised,) = admin._entries_to_raise(row, actual)
    assert (raised.name, raised.value) == ("min.insync.replicas", "2")
    assert admin._entries_to_raise(row, actual | {"min.insync.replicas": "3"}) == []


@pytest.mark.servers
async def test_all_topics_are_made_once(settings: Settings) -> None:
    """The first call makes every topic with its partitions and limits, the second none."""
    names = {topic.named(settings.topic_prefix) for topic in TOPICS}
    assert {row.partitions for row in await list_topics(settings)} == {0}
    assert set(await create_topics(settings)) == names
    assert await create_topics(settings) == []
    for row in await list_topics(settings):
        assert row.name in names
        assert row.partitions == row.partitions_wanted == (1 if row.topic.partitioning == "single" else settings.partitions)
        assert row.replication == 1
        assert topic_config(row.topic, replication=1).items() <= _config(settings, row.name).items()


@pytest.mark.servers
async def test_several_processes_at_once(settings: Settings) -> None:
    """Of several that make the topics at the same time each succeeds, and each topic is made by one of them."""
    made = await asyncio.gather(*(create_topics(settings) for _ in range(5)))
    assert sorted(name for names in made for name in names) == sorted(topic.named(settings.topic_prefix) for topic in TOPICS)


@pytest.mark.servers
async def test_another_partition_count_is_refused(settings: Settings) -> None:
    """With topics of 8 partitions OTTLA_PARTITIONS=4 is refused as unsafe, and nothing is made."""
    _make(settings, RAW.named(settings.topic_prefix), partitions=8)
    with pytest.raises(PartitionsChangedError) as caught:
        await create_topics(settings.model_copy(update={"partitions": 4}))
    assert caught.value.exit_code == UNSAFE
    assert str(caught.value) == (
        f"Topic {settings.topic_prefix}raw has 8 partitions and OTTLA_PARTITIONS is 4: set OTTLA_PARTITIONS=8, "
        "because with another number keys would leave their state."
    )
    assert sum(row.partitions for row in await list_topics(settings)) == 8


@pytest.mark.servers
async def test_a_compacted_topic_with_several_partitions_is_refused(settings: Settings) -> None:
    """The tables of what is applied are read from one partition, so a topic with more is refused."""
    _make(settings, ACCOUNTS.named(settings.topic_prefix), partitions=3)
    with pytest.raises(PartitionsChangedError, match="accounts has 3 partitions and must have 1: use another OTTLA_TOPIC_PREFIX"):
        await create_topics(settings)


@pytest.mark.servers
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed yet"])
async def test_limits_are_raised_and_never_lowered(settings: Settings, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    """A topic that is there gets the limits it needs, and one that keeps more for longer is left as it is.

    So, too, where the broker that is asked did not list it yet, which it does a moment after the controller made it.
    """
    raw, status, accounts = (topic.named(settings.topic_prefix) for topic in (RAW, STATUS, ACCOUNTS))
    more = {"max.message.bytes": str(50 * MIB), "retention.ms": "-1"}
    _make(settings, raw, partitions=settings.partitions, config={"retention.ms": "1000", "max.message.bytes": "1000"})
    _make(settings, status, partitions=settings.partitions, config=more)
    _make(settings, accounts, partitions=1, config={"max.message.bytes": more["max.message.bytes"]})
    if not listed:
        looks = iter([True])
        real = admin._topics_on_broker

        def look(*args: Any) -> list[admin.TopicOnBroker]:
            return [replace(row, partitions=0, replication=0) if first else row for first in [next(looks, False)] for row in real(*args)]

        monkeypatch.setattr(admin, "_topics_on_broker", look)
    await create_topics(settings)
    await _until_config(settings, raw, topic_config(RAW, replication=1))
    assert more.items() <= _config(settings, status).items()
    compacted = topic_config(ACCOUNTS, replication=1) | {"max.message.bytes": more["max.message.bytes"]}
    await _until_config(settings, accounts, compacted)


@pytest.mark.servers
async def test_a_longer_retention_is_given_to_topics_that_are_there(settings: Settings) -> None:
    """Raised by the next process that says so, to the topics of messages alone; one that says less changes nothing."""
    await create_topics(settings)
    await create_topics(settings.model_copy(update={"raw_retention_days": 30}))
    await create_topics(settings.model_copy(update={"raw_retention_days": 9}))
    kept = {topic.name: _config(settings, topic.named(settings.topic_prefix))["retention.ms"] for topic in (RAW, STATUS, DEAD_LETTERS)}
    assert kept == {RAW.name: str(30 * DAY_MS), STATUS.name: str(30 * DAY_MS), DEAD_LETTERS.name: str(35 * DAY_MS)}


@pytest.mark.servers
async def test_too_few_brokers_for_the_replication(settings: Settings) -> None:
    """More replicas than brokers is one sentence."""
    with pytest.raises(TopicsError) as caught:
        await create_topics(settings.model_copy(update={"replication": 3}))
    assert str(caught.value) == "OTTLA_REPLICATION is 3 and Kafka has 1 broker: start more brokers or set it lower."
    assert caught.value.exit_code == 1


@pytest.mark.servers
async def test_kafka_is_there(settings: Settings) -> None:
    """A broker that answers is counted."""
    assert await check_kafka(settings) >= 1


async def test_kafka_is_not_there(nowhere: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A Kafka that does not answer is one sentence for every call, and the client library prints nothing."""
    settings = Settings(kafka=nowhere, _env_file=None)
    for call in (check_kafka(settings, timeout_s=0.3), list_topics(settings, timeout_s=0.3)):
        with pytest.raises(KafkaUnreachableError) as caught:
            await call
        assert str(caught.value) == (
            f"Kafka at {nowhere} does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA."
        )
    assert capfd.readouterr() == ("", "")
