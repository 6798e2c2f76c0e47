"""Servers and settings of a run's own, for what needs no cluster whose processes are killed."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.servers.local import start_servers
from infra.settings import Settings


@asynccontextmanager
async def own_servers(name: str) -> AsyncIterator[Settings]:
    """Start local servers (unless OTTLA_KAFKA and OTTLA_CASSANDRA name others); give settings on them, with topics and keyspace of `name`.

    The home lies in a temporary folder, which has room beside it and goes with it.
    """
    with tempfile.TemporaryDirectory(prefix=f"ottla-{name}-") as folder:
        settings = Settings(
            home=Path(folder) / "home",
            kafka=os.environ.get("OTTLA_KAFKA", ""),
            cassandra=os.environ.get("OTTLA_CASSANDRA", ""),
            topic_prefix=f"{name}{uuid.uuid4().hex[:8]}-",
            keyspace=f"{name}{uuid.uuid4().hex[:8]}",
            whatsapp_app_secret="torture-secret",
            admin_key="torture-admin-key",
            _env_file=None,
        )
        servers = await start_servers(settings, die_with_parent=True)
        try:
            yield settings.model_copy(update={"kafka": servers.kafka, "cassandra": servers.cassandra})
        finally:
            await servers.stop()
