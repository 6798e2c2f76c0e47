"""Who may call: everything but webhooks, /livez and /readyz needs a bearer key."""

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.settings import Settings
from ingress.problems import problem

OPEN_PATHS = frozenset({"/webhooks/whatsapp", "/api/webhook", "/api/webhooks/whatsapp", "/livez", "/readyz"})
EVERY_TENANT = "*"


class RequireKey:
    """ASGI middleware that refuses calls without a known key and notes the caller's tenant in `request.state.tenant`.

    The admin key reaches every tenant, which is written `*`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        settings: Settings = scope["app"].state.settings
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        expected = b"Bearer " + settings.admin_key.get_secret_value().encode()
        if not hmac.compare_digest(given, expected):
            response = problem(401, "Key needed", "Send `Authorization: Bearer <OTTLA_ADMIN_KEY>`.", headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["tenant"] = EVERY_TENANT
        await self._app(scope, receive, send)
