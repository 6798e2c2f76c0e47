"""Where a process finds Kafka and Cassandra: its settings, else the local servers of its OTTLA_HOME."""

from infra.errors import ServerError
from infra.fault_points import refuse_elsewhere
from infra.servers.local import local_cassandra, local_kafka
from infra.settings import Settings


def resolve_servers(settings: Settings) -> Settings:
    """Return the settings with `kafka` and `cassandra` filled.

    Raises ServerError with one sentence when one is neither set nor running here, RefusedError for faults of tests on a broker elsewhere.
    """
    kafka = settings.kafka or local_kafka(settings.home)
    if not kafka:
        raise ServerError("There is no Kafka: run `ottla infra up`, or set OTTLA_KAFKA to one that runs.")
    refuse_elsewhere(kafka)
    cassandra = settings.cassandra or local_cassandra(settings.home)
    if not cassandra:
        raise ServerError("There is no Cassandra: run `ottla infra up`, or set OTTLA_CASSANDRA to one that runs.")
    return settings.model_copy(update={"kafka": kafka, "cassandra": cassandra})
