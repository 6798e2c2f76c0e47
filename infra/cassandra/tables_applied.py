"""Which migrations a keyspace has seen, asked without changing anything."""

import asyncio
import logging

from cassandra import DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import RoundRobinPolicy
from cassandra.query import tuple_factory

from infra.cassandra.connection import security_options
from infra.cassandra.migrate import read_migrations
from infra.errors import OttlaError
from infra.settings import Settings


async def missing_migrations(settings: Settings, *, timeout_s: float) -> list[str]:
    """Return the names of the migrations that the installation's keyspace has not seen; OttlaError if nobody answers."""
    applied = await asyncio.to_thread(_applied, settings, timeout_s)
    return [migration.name for migration in read_migrations() if migration.name not in applied]


def _applied(settings: Settings, timeout_s: float) -> set[str]:
    servers, keyspace = settings.cassandra, settings.keyspace
    addresses = [(host, int(port)) for host, _, port in (server.rpartition(":") for server in servers.split(","))]
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=timeout_s, row_factory=tuple_factory)
    # What the driver has to say about a node that is away is raised here as one sentence.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    cluster = Cluster(
        contact_points=addresses,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=timeout_s,
        control_connection_timeout=timeout_s,
        monitor_reporting_enabled=False,
        **security_options(settings),
    )
    try:
        session = cluster.connect()
        tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (keyspace,))
        if ("schema_migrations",) not in list(tables):
            return set()
        return {str(name) for (name,) in session.execute(f'SELECT name FROM "{keyspace}".schema_migrations')}  # noqa: S608 - checked by settings
    except (DriverException, NoHostAvailable, OSError):
        raise OttlaError(
            f"Cassandra at {servers} does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_CASSANDRA."
        ) from None
    finally:
        cluster.shutdown()
