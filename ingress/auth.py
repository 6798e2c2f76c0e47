"""Who may call: everything but webhooks, /livez and /readyz needs a key; a tenant's key reaches that tenant only.

The pages take a session of their own instead (`ingress/pages/access.py`), which is begun with the same keys.
"""

import hmac
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.config_tables import ConfigTables
from infra.settings import Settings
from ingress.problems import problem

OPEN_PATHS = frozenset({"/webhooks/whatsapp", "/api/webhook", "/api/webhooks/whatsapp", "/livez", "/readyz"})
EVERY_TENANT = "*"

_BEARER = b"Bearer "
# What knows tenants; nothing else is reached with a tenant's key, also what is added later.
_OF_TENANTS = ("/v1/conversations", "/v1/messages", "/v1/sends", "/v1/dead-letters")


class RequireKey:
    """ASGI middleware that refuses calls without a known key and notes the caller's tenant in `request.state.tenant`.

    The admin key reaches every tenant, which is written `*`. Paths of which `elsewhere` tells are passed on: others look after them.
    """

    def __init__(self, app: ASGIApp, elsewhere: Callable[[str], bool] = lambda _: False) -> None:
        self._app = app
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer 401 or 403."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._elsewhere(scope["path"]):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        state = scope["app"].state
        tenant = tenant_of_bearer(scope, state.settings, state.config)
        if tenant is None and not state.config.started:
            await problem(503, "Starting", "The keys of tenants are being read; try again.", {"Retry-After": "2"})(scope, receive, send)
            return
        if tenant is None:
            response = problem(401, "Key needed", "Send `Authorization: Bearer <OTTLA_ADMIN_KEY>`.", headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        if tenant != EVERY_TENANT and not any(path == each or path.startswith(f"{each}/") for each in _OF_TENANTS):
            await problem(403, "Admin key needed", "A tenant's key reaches that tenant's messages only.")(scope, receive, send)
            return
        scope.setdefault("state", {})["tenant"] = tenant
        await self._app(scope, receive, send)


def tenant_of_bearer(scope: Scope, settings: Settings, tables: ConfigTables) -> str | None:
    """Return whom the Authorization header of a call reaches; None if it has none that is known."""
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return tenant_of_key(given[len(_BEARER) :], settings, tables) if given.startswith(_BEARER) else None


def tenant_of_key(given: bytes, settings: Settings, tables: ConfigTables) -> str | None:
    """Return the tenant that a key reaches, EVERY_TENANT for the admin key; None for a key that nobody has."""
    found: str | None = None
    # All are compared, so that the time it takes tells nothing.
    for tenant in tables.tenants.values():
        if tenant.key and hmac.compare_digest(given, tenant.key.encode()):
            found = tenant.id
    admin = settings.admin_key.get_secret_value().encode()
    return EVERY_TENANT if hmac.compare_digest(given, admin) else found


def key_of_tenant(tenant: str, settings: Settings, tables: ConfigTables) -> str | None:
    """Return the key that reaches a tenant or, with EVERY_TENANT, all; None if there is none."""
    if tenant == EVERY_TENANT:
        return settings.admin_key.get_secret_value()
    applied = tables.tenants.get(tenant)
    return applied.key or None if applied is not None else None
