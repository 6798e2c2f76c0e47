"""Topics on the broker: made from the one table in `schemas.topics`, listed, and refused where they would break a promise.

The client is librdkafka's and blocks, so every call runs in a thread and has a deadline.
"""

import asyncio
import time
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from infra.errors import OttlaError, RefusedError
from infra.kafka.connection import librdkafka_options
from infra.settings import Settings
from schemas.topics import DAY_MS, MIB, RAW_RETENTION_DAYS, TOPICS, Topic

TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 0.05
_REPLICATION_MAX = 3
_STAMPED_BY = "message.timestamp.type"
# Raised where they are smaller, never lowered. With one replica in sync what is acknowledged is lost with one disk.
_LIMITS = ("max.message.bytes", "min.insync.replicas", "retention.ms")
# A record's headers and Kafka's own framing come on top of its value.
_RECORD_OVERHEAD_BYTES = 64 << 10


class KafkaUnreachableError(OttlaError):
    """Kafka does not answer; the text says where it was looked for and what to do."""

    def __init__(self, servers: str) -> None:
        super().__init__(f"Kafka at {servers} does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.")


class TopicsError(OttlaError):
    """Topics could not be made or read; the text says why."""


class PartitionsChangedError(RefusedError):
    """Topics exist with another number of partitions than the settings say: keys would leave their state."""


@dataclass(frozen=True, kw_only=True)
class TopicOnBroker:
    """A topic of ours as the broker has it; `partitions` and `replication` are 0 where it is missing."""

    topic: Topic
    name: str
    partitions_wanted: int
    partitions: int
    replication: int
    raw_days: int

    def config(self, *, replication: int) -> dict[str, str]:
        """Return the configuration it should have."""
        return topic_config(self.topic, replication=replication, raw_days=self.raw_days)


async def check_kafka(settings: Settings, *, timeout_s: float = 5.0) -> int:
    """Return the number of brokers; KafkaUnreachableError if none answers within `timeout_s`."""
    return await asyncio.to_thread(lambda: len(_metadata(_client(settings), settings, timeout_s).brokers))


async def list_topics(settings: Settings, *, timeout_s: float = 5.0) -> list[TopicOnBroker]:
    """Return every topic of this installation, missing ones too; KafkaUnreachableError if no broker answers."""
    metadata = await asyncio.to_thread(lambda: _metadata(_client(settings), settings, timeout_s))
    return _topics_on_broker(settings, metadata)


async def create_topics(settings: Settings) -> list[str]:
    """Make the topics that are missing and return their names; safe to repeat and to run in several processes at once.

    A topic that exists is raised to the record size and retention it needs and never lowered. PartitionsChangedError if one
    has another number of partitions than `settings` say, before anything is made; KafkaUnreachableError, TopicsError.
    """
    return await asyncio.to_thread(_create_topics, settings)


def topic_config(topic: Topic, *, replication: int, raw_days: int = RAW_RETENTION_DAYS) -> dict[str, str]:
    """Return the broker's configuration of a topic where [raw] is kept for so many days."""
    config = {
        "max.message.bytes": str(topic.record_bytes_max + _RECORD_OVERHEAD_BYTES),
        "min.insync.replicas": "2" if replication >= _REPLICATION_MAX else "1",
        # One clock stamps all records: a broker refuses records from a machine whose clock is an hour ahead, readings by time would miss
        # those of one that is behind, and retention would delete them early.
        _STAMPED_BY: "LogAppendTime",
    }
    kept_ms = topic.kept_ms(raw_days)
    if kept_ms is not None:
        return config | {"cleanup.policy": "delete", "retention.ms": str(kept_ms)}
    # The segment being written is never compacted, so small segments and early cleaning keep what a restart reads short.
    # A deletion stays long enough for a follower that was away over a weekend.
    return config | {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 * MIB),
        "segment.ms": str(DAY_MS),
        "min.cleanable.dirty.ratio": "0.2",
        "delete.retention.ms": str(7 * DAY_MS),
    }


def _client(settings: Settings) -> AdminClient:
    # Level 2 keeps librdkafka's line per failed connection off the terminal: what failed is raised here as one sentence.
    return AdminClient(librdkafka_options(settings) | {"log_level": 2, "socket.timeout.ms": int(TIMEOUT_S * 1000)})


def _metadata(client: AdminClient, settings: Settings, timeout_s: float) -> ClusterMetadata:
    try:
        return client.list_topics(timeout=timeout_s)
    except KafkaException:
        raise KafkaUnreachableError(settings.kafka) from None


def _topics_on_broker(settings: Settings, metadata: ClusterMetadata) -> list[TopicOnBroker]:
    rows = []
    for topic in TOPICS:
        name = topic.named(settings.topic_prefix)
        found = metadata.topics.get(name)
        partitions = found.partitions if found is not None and found.error is None else {}
        rows.append(
            TopicOnBroker(
                topic=topic,
                name=name,
                partitions_wanted=settings.partitions if topic.partitioning == "conversation" else 1,
                partitions=len(partitions),
                replication=min((len(partition.replicas) for partition in partitions.values()), default=0),
                raw_days=settings.raw_retention_days,
            )
        )
    return rows


def _create_topics(settings: Settings) -> list[str]:
    client = _client(settings)
    metadata = _metadata(client, settings, TIMEOUT_S)
    rows = _topics_on_broker(settings, metadata)
    _refuse_other_partitions(rows)
    replication = settings.replication or min(_REPLICATION_MAX, len(metadata.brokers))
    if replication > len(metadata.brokers):
        brokers = f"{len(metadata.brokers)} broker{'s' * (len(metadata.brokers) != 1)}"
        raise TopicsError(f"OTTLA_REPLICATION is {replication} and Kafka has {brokers}: start more brokers or set it lower.")
    made = _make(client, [row for row in rows if not row.partitions], replication=replication)
    rows = _wait_until_usable(client, settings)
    # Not those that the metadata above had: a broker lists a topic a moment after the controller has it, and so one that was missing there
    # may have been made by someone else before.
    _raise_limits(client, [row for row in rows if row.name not in made])
    return made


def _refuse_other_partitions(rows: list[TopicOnBroker]) -> None:
    for row in rows:
        if row.partitions and row.partitions != row.partitions_wanted:
            wanted = (
                f"OTTLA_PARTITIONS is {row.partitions_wanted}: set OTTLA_PARTITIONS={row.partitions}"
                if row.topic.partitioning == "conversation"
                else "must have 1: use another OTTLA_TOPIC_PREFIX"
            )
            raise PartitionsChangedError(
                f"Topic {row.name} has {row.partitions} partitions and {wanted}, because with another number keys would leave their state."
            )


def _make(client: AdminClient, rows: list[TopicOnBroker], *, replication: int) -> list[str]:
    if not rows:
        return []
    wanted = [
        NewTopic(
            row.name,
            num_partitions=row.partitions_wanted,
            replication_factor=replication,
            config=row.config(replication=replication),
        )
        for row in rows
    ]
    made = []
    for name, future in client.create_topics(wanted, operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicsError(f"Topic {name} could not be made: {error.args[0].str().rstrip('.')}.") from None
    return made


def _raise_limits(client: AdminClient, rows: list[TopicOnBroker]) -> None:
    """Give topics that exist the limits they need, as one made by a broker on its own has too small ones."""
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while changes := _limits_to_raise(client, rows):
            if time.monotonic() > deadline:
                raise TopicsError(f"Kafka does not take the configuration of topic {changes[0].name}: see the broker's log.")
            for future in client.incremental_alter_configs(changes, request_timeout=TIMEOUT_S).values():
                future.result()
            # The broker learns of it a moment after the controller took it, and only then is it so.
            time.sleep(_LOOK_AGAIN_S)
    except KafkaException as error:
        raise TopicsError(f"The configuration of the topics could not be checked: {error.args[0].str().rstrip('.')}.") from None


def _limits_to_raise(client: AdminClient, rows: list[TopicOnBroker]) -> list[ConfigResource]:
    if not rows:
        return []
    described = client.describe_configs([ConfigResource(ResourceType.TOPIC, row.name) for row in rows], request_timeout=TIMEOUT_S)
    actual = {resource.name: future.result() for resource, future in described.items()}
    return [
        ConfigResource(ResourceType.TOPIC, row.name, incremental_configs=entries)
        for row in rows
        if (entries := _entries_to_raise(row, {name: entry.value for name, entry in actual[row.name].items()}))
    ]


def _entries_to_raise(row: TopicOnBroker, actual: dict[str, str]) -> list[ConfigEntry]:
    wanted = row.config(replication=row.replication)
    raised = [name for name in _LIMITS if name in wanted and 0 <= int(actual[name]) < int(wanted[name])]
    # A topic that is to be compacted and is not, or the other way round, loses or keeps what it should not.
    names = raised + [
        name
        for name in wanted
        if name not in _LIMITS
        and (actual["cleanup.policy"] != wanted["cleanup.policy"] or (name == _STAMPED_BY and actual[name] != wanted[name]))
    ]
    return [
        ConfigEntry(name, wanted[name], source=ConfigSource.DYNAMIC_TOPIC_CONFIG, incremental_operation=AlterConfigOpType.SET)
        for name in names
    ]


def _wait_until_usable(client: AdminClient, settings: Settings) -> list[TopicOnBroker]:
    """Wait until the brokers know and lead all partitions, which is a moment after the controller made them; return the topics."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        rows = _topics_on_broker(settings, _metadata(client, settings, TIMEOUT_S))
        _refuse_other_partitions(rows)
        if all(row.partitions for row in rows) and _led(client, rows):
            return rows
        if time.monotonic() > deadline:
            raise TopicsError(f"Kafka at {settings.kafka} made the topics but does not serve them all yet: try again.")
        time.sleep(_LOOK_AGAIN_S)


def _led(client: AdminClient, rows: list[TopicOnBroker]) -> bool:
    latest = {TopicPartition(row.name, partition): OffsetSpec.latest() for row in rows for partition in range(row.partitions)}
    try:
        for future in client.list_offsets(latest, request_timeout=TIMEOUT_S).values():
            future.result()
    except KafkaException:
        return False
    return True
