"""Look whether servers that settings name answer at all, so that a wrong address is one sentence at the start."""

import asyncio
import ssl

from infra.errors import ServerError
from infra.servers import wire
from infra.settings import Settings

_ANSWER_S = 5.0


async def check_servers(settings: Settings) -> None:
    """Ask those of Kafka and Cassandra that are set; an OttlaError with one sentence within 5 s if one does not answer."""
    checks = []
    if settings.kafka:
        checks.append(_check_kafka(settings))
    if settings.cassandra:
        checks.append(_check_cassandra(settings))
    await asyncio.gather(*checks)


async def _check_kafka(settings: Settings) -> None:
    from infra.kafka.admin import check_kafka

    await check_kafka(settings, timeout_s=_ANSWER_S)


async def _check_cassandra(settings: Settings) -> None:
    """Ask all nodes at once: one that answers will do."""
    addresses = [address.strip().rpartition(":") for address in settings.cassandra.split(",") if address.strip()]
    tls = _cassandra_tls(settings)
    asked = [asyncio.create_task(wire.cassandra_serves(int(port), host.strip("[]"), tls)) for host, _, port in addresses]
    try:
        async with asyncio.timeout(_ANSWER_S):
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return
    except TimeoutError:
        pass
    finally:
        for task in asked:
            task.cancel()
    raise ServerError(f"Cassandra does not answer at {settings.cassandra}: start it there, or correct OTTLA_CASSANDRA.")


def _cassandra_tls(settings: Settings) -> ssl.SSLContext | None:
    from infra.cassandra.connection import tls_context

    return tls_context(settings) if settings.cassandra_tls else None
