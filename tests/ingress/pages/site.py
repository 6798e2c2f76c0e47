"""The pages of an ingress in this process: what they need is given, and a client with a browser's cookies asks them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from infra.clock import SystemClock
from infra.kafka.follower import Follower
from infra.settings import Settings
from ingress.app import PAGES, _http_error
from ingress.auth import RequireKey
from ingress.pages.access import PageAccess, is_page
from ingress.pages.counts import Counter
from ingress.pages.events import FOLLOWED
from ingress.pages.live import Turns
from ingress.pages.open_streams import OpenStreams
from schemas.events.config import Tenant

ADMIN_KEY = "an-admin-key"
TENANT_KEY = "a-key-of-a-tenant"


class MovedClock(SystemClock):
    """A clock that a test moves forward; `by_s` is how far."""

    by_s = 0

    def now_ms(self) -> int:
        return super().now_ms() + 1000 * self.by_s


def site(cassandra: object = None, *, tenant: str = "acme", settings: Settings | None = None, **state: Any) -> Starlette:
    """Return the application with the pages alone; the tenant has TENANT_KEY."""
    app = Starlette(
        routes=[route for each in PAGES for route in each.routes],
        middleware=[Middleware(PageAccess), Middleware(RequireKey, elsewhere=is_page)],
        exception_handlers={HTTPException: _http_error, 500: _http_error},
    )
    settings = (settings or Settings(_env_file=None)).model_copy(update={"admin_key": SecretStr(ADMIN_KEY)})
    given: dict[str, Any] = {
        "settings": settings,
        "config": SimpleNamespace(started=True, tenants={tenant: Tenant(id=tenant, key=TENANT_KEY)}, agents={}, accounts={}),
        "cassandra": cassandra,
        "clock": MovedClock(),
        "follower": Follower(settings, FOLLOWED),
        "streams": OpenStreams(),
        "turns": Turns(),
        "counter": Counter(),
        "is_leaving": lambda: False,
    }
    for name, value in (given | state).items():
        setattr(app.state, name, value)
    return app


@asynccontextmanager
async def browser(app: Starlette, key: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client with cookies, logged in if a key is given."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://ingress") as client:
        if key:
            answer = await client.post("/login", data={"key": key})
            assert answer.status_code == 303, answer.text
        yield client


def form_token(page: str) -> str:
    """Return the token that the forms of a page carry."""
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]
