"""Calls the ingress's HTTP interface with the administrator's key, for commands; what goes wrong is one sentence."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from infra.errors import OttlaError
from infra.settings import Settings

_TIMEOUT_S = 30.0
_UNAUTHORIZED = 401


class IngressAwayError(OttlaError):
    """The ingress does not answer, or cannot do what is asked just now."""


class IngressClient:
    """Asks one ingress; made by `ingress_client`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def call(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return the answer's status and JSON object. IngressAwayError if nobody answers as an ingress does, OttlaError for a wrong key."""
        data = None if body is None else orjson.dumps(body)
        kind = {"Content-Type": "application/json"} if data is not None else {}
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers={**kind, **(headers or {})}, allow_redirects=False
            ) as response:
                answer = orjson.loads(await response.read())
                status = response.status
        except aiohttp.ClientConnectorError:
            raise IngressAwayError(f"No ingress listens at {self.url}: start one with `ottla up`.") from None
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            why = str(error).partition("\n")[0][:100] or type(error).__name__
            raise IngressAwayError(f"What listens at {self.url} did not answer as our ingress does ({why}).") from None
        if status == _UNAUTHORIZED:
            raise OttlaError(f"The ingress at {self.url} has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME to the one it runs with.")
        return status, answer if isinstance(answer, dict) else {}


@asynccontextmanager
async def ingress_client(settings: Settings) -> AsyncIterator[IngressClient]:
    """Yield a client of the ingress of these settings."""
    headers = {"Authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        yield IngressClient(session, settings.ingress_url)
