"""Whose key reaches what."""

from types import SimpleNamespace

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.settings import Settings
from ingress import api_to_outbound
from ingress.auth import RequireKey
from schemas.events.config import Account, Tenant

ADMIN = "an-admin-key"


async def whose(request: Request) -> Response:
    return JSONResponse(request.state.tenant)


def client() -> httpx2.AsyncClient:
    app = Starlette(routes=[Route("/{path:path}", whose, methods=["GET", "POST"])], middleware=[Middleware(RequireKey)])
    app.state.settings = Settings(admin_key=SecretStr(ADMIN), _env_file=None)
    tenants = {"acme": Tenant(id="acme", key="a-key-of-acme-here"), "none": Tenant(id="none")}
    app.state.config = SimpleNamespace(tenants=tenants, started=True)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://ingress")


@pytest.mark.parametrize(
    ("key", "path", "status", "tenant"),
    [
        (ADMIN, "/v1/config", 200, "*"),
        (ADMIN, "/v1/conversations", 200, "*"),
        ("a-key-of-acme-here", "/v1/conversations", 200, "acme"),
        ("a-key-of-acme-here", "/v1/conversations/wa:1:2/messages", 200, "acme"),
        ("a-key-of-acme-here", "/v1/messages", 200, "acme"),
        ("a-key-of-acme-here", "/v1/dead-letters/x/redrive", 200, "acme"),
        ("a-key-of-acme-here", "/v1/conversationsx", 403, ""),
        ("a-key-of-acme-here", "/v1/config", 403, ""),
        ("a-key-of-acme-here", "/metrics", 403, ""),
        ("a-key-of-acme-here", "/health", 403, ""),
        ("", "/v1/conversations", 401, ""),
        ("nobody", "/v1/conversations", 401, ""),
    ],
)
async def test_a_tenant_s_key_reaches_that_tenant_only(key: str, path: str, status: int, tenant: str) -> None:
    """The admin key reaches all; a tenant without a key is not reached by an empty one; what knows no tenants is the administrator's."""
    async with client() as http:
        answer = await http.get(path, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == tenant


async def test_a_tenant_sends_from_its_own_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's number is not there for it, and nothing is queued; the administrator sends from all."""
    monkeypatch.setattr(api_to_outbound, "_ACCOUNTS_S", 0.01)

    class AskedError(Exception):
        """The send would be queued."""

    def producer() -> None:
        raise AskedError

    app = Starlette(routes=api_to_outbound.routes, middleware=[Middleware(RequireKey)])
    app.state.settings = Settings(admin_key=SecretStr(ADMIN), _env_file=None)
    tenants = {"acme": Tenant(id="acme", key="a-key-of-acme-here")}
    accounts = {"1": Account(id="a", phone_number_id="1", tenant="acme"), "2": Account(id="b", phone_number_id="2", tenant="other")}
    config = ConfigTables(Settings(_env_file=None))
    config.accounts.update({each.id: each for each in accounts.values()})
    app.state.config = config
    app.state.cassandra, app.state.clock, app.state.queue_positions = None, SystemClock(), None
    app.state.producer = SimpleNamespace(partitions=lambda _: producer())
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://ingress")
    async with http:
        body = {"account": "1", "to": "16505550001", "type": "text", "text": {"body": "hi"}}
        for key in (ADMIN, "a-key-of-acme-here", "nobody"):
            # Whose number it is, and whose the key, is known once the accounts were read; until then it would be filed as somebody else's.
            config.tenants.update(tenants)
            early = await http.post("/v1/messages", json=body, headers={"Authorization": f"Bearer {key}"})
            assert (early.status_code, early.headers["retry-after"]) == (503, "2")
        config._started.set()
        for key, account, is_queued in (("a-key-of-acme-here", "1", True), ("a-key-of-acme-here", "2", False), (ADMIN, "2", True)):
            body = {"account": account, "to": "16505550001", "type": "text", "text": {"body": "hi"}}
            asking = http.post("/v1/messages", json=body, headers={"Authorization": f"Bearer {key}"})
            if is_queued:
                with pytest.raises(AskedError):
                    await asking
            else:
                assert (await asking).status_code == 404
