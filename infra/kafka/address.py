"""Where a command that needs Kafka alone finds it."""

from infra.errors import ServerError
from infra.servers.local import local_kafka
from infra.settings import Settings


def with_kafka(settings: Settings) -> Settings:
    """Return the settings with `kafka` filled: as set, else the local broker of OTTLA_HOME; ServerError if neither is there."""
    kafka = settings.kafka or local_kafka(settings.home)
    if not kafka:
        raise ServerError("There is no Kafka: run `ottla infra up`, or set OTTLA_KAFKA to one that runs.")
    return settings.model_copy(update={"kafka": kafka})
