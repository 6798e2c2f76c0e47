"""Checks of Kafka with its topics, and of Cassandra with its tables."""

from infra.cassandra.tables_applied import missing_migrations
from infra.doctor.finding import Finding, ok, problem
from infra.kafka.address import with_kafka
from infra.kafka.admin import TopicOnBroker, list_topics
from infra.kafka.admin import check_kafka as count_brokers
from infra.servers.local import local_cassandra
from infra.settings import Settings
from schemas.topics import TOPICS

_ANSWER_S = 5.0


async def check_kafka(settings: Settings) -> list[Finding]:
    """Ask Kafka who is there, and for every topic."""
    settings = with_kafka(settings)
    brokers = await count_brokers(settings, timeout_s=_ANSWER_S)
    found = [ok("kafka", f"Kafka at {settings.kafka} answers, with {brokers} broker{'s' * (brokers != 1)}.")]
    topics = await list_topics(settings, timeout_s=_ANSWER_S)
    missing = [topic.name for topic in topics if not topic.partitions]
    if missing:
        found.append(
            problem("topics", f"{len(missing)} of {len(TOPICS)} topics are missing ({missing[0]}, ...): run `ottla topics create`.")
        )
    found += [
        problem("topics", f"{_named(names)} {actual} partitions and should have {wanted}: {_remedy(actual, wanted)}.")
        for (actual, wanted), names in _wrongly_divided(topics).items()
    ]
    return found if len(found) > 1 else [*found, ok("topics", f"All {len(TOPICS)} topics are there.")]


def _wrongly_divided(topics: list[TopicOnBroker]) -> dict[tuple[int, int], list[str]]:
    wrong: dict[tuple[int, int], list[str]] = {}
    for topic in topics:
        if topic.partitions not in {0, topic.partitions_wanted}:
            wrong.setdefault((topic.partitions, topic.partitions_wanted), []).append(topic.name)
    return wrong


def _named(names: list[str]) -> str:
    return f"Topic {names[0]} has" if len(names) == 1 else f"{len(names)} topics ({names[0]}, ...) have"


def _remedy(actual: int, wanted: int) -> str:
    if wanted == 1:
        return "use another OTTLA_TOPIC_PREFIX"
    return f"set OTTLA_PARTITIONS={actual}, because with another number keys would leave their state"


async def check_cassandra(settings: Settings) -> list[Finding]:
    """Ask Cassandra for the tables that were made."""
    servers = settings.cassandra or local_cassandra(settings.home)
    if not servers:
        return [problem("cassandra", "There is no Cassandra: run `ottla infra up`, or set OTTLA_CASSANDRA to one that runs.")]
    missing = await missing_migrations(settings.model_copy(update={"cassandra": servers}), timeout_s=_ANSWER_S)
    if missing:
        lacks = f"keyspace {settings.keyspace} lacks {', '.join(missing)}"
        return [problem("cassandra", f"Cassandra at {servers} answers, but {lacks}: the sinks make it when they start.")]
    return [ok("cassandra", f"Cassandra at {servers} answers, and keyspace {settings.keyspace} has every table.")]
