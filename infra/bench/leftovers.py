"""Removes what an installation of a run has left on servers that others use, too: its topics and its keyspace."""

import asyncio

from cassandra import DriverException
from cassandra.cluster import Cluster, NoHostAvailable
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.cassandra.connection import security_options
from infra.kafka.connection import librdkafka_options
from infra.settings import Settings

_TIMEOUT_S = 30.0


async def remove_leftovers(settings: Settings) -> None:
    """Delete every topic with the settings' prefix, which must be nobody else's, and their keyspace; what does not answer keeps them."""
    await asyncio.gather(asyncio.to_thread(_delete_topics, settings), asyncio.to_thread(_drop_keyspace, settings))


def _delete_topics(settings: Settings) -> None:
    client = AdminClient(librdkafka_options(settings) | {"log_level": 2})
    try:
        names = [name for name in client.list_topics(timeout=_TIMEOUT_S).topics if name.startswith(settings.topic_prefix)]
        for future in client.delete_topics(names, operation_timeout=_TIMEOUT_S).values() if names else ():
            future.result()
    except KafkaException:
        return


def _drop_keyspace(settings: Settings) -> None:
    host, _, port = settings.cassandra.partition(",")[0].rpartition(":")
    cluster = Cluster([host], port=int(port), protocol_version=5, **security_options(settings))
    try:
        cluster.connect().execute(f'DROP KEYSPACE IF EXISTS "{settings.keyspace}"', timeout=_TIMEOUT_S)
    except (DriverException, NoHostAvailable, OSError):
        return
    finally:
        cluster.shutdown()
