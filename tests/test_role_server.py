"""The small HTTP server of the roles: where it listens, and what it says when it cannot."""

from pathlib import Path

import aiohttp
import pytest

from infra.errors import OttlaError
from infra.role_server import RoleServer
from infra.servers.state import free_ports
from infra.settings import Settings


def _settings(home: Path, host: str, port: int) -> Settings:
    return Settings(home=home, metrics_host=host, metrics_port=port, worker="test", _env_file=None)


async def test_it_listens_where_it_is_told(tmp_path: Path) -> None:
    """On loopback by default; on another address, as in a container that Prometheus is to reach, only there."""
    port = free_ports(1)[0]
    server = RoleServer(_settings(tmp_path, "127.0.0.2", port), ready=lambda: True)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.2:{port}/readyz") as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{port}/readyz")
    finally:
        await server.stop()


async def test_an_address_that_is_not_ours_is_one_sentence(tmp_path: Path) -> None:
    """It names the settings to change."""
    server = RoleServer(_settings(tmp_path, "203.0.113.1", 1234), ready=lambda: True)
    with pytest.raises(OttlaError, match=r"^203\.0\.113\.1:1234 cannot be listened on .*: set OTTLA_METRICS_HOST"):
        await server.start()
