"""A webhook receiver for tests: keeps what was posted and answers what it is told."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from infra.simulator.faults import Faults
from infra.simulator.server import SimulatedServer


@dataclass
class Webhook:
    """One body as it arrived."""

    body: bytes
    headers: dict[str, str]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Every status in it."""
        entries = json.loads(self.body)["entry"]
        return [status for entry in entries for change in entry["changes"] for status in change["value"].get("statuses", [])]


@dataclass
class _Seen:
    webhooks: list[Webhook] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class Receiver(SimulatedServer):
    """Listens at `/webhooks/whatsapp`; `answers` are the HTTP statuses of the next bodies, then 200."""

    def __init__(self) -> None:
        super().__init__(port=0, faults=Faults(frozenset(), seed=1))
        self.answers: list[int] = []
        self._seen = _Seen()

    @property
    def webhook_url(self) -> str:
        """Where to post."""
        return f"{self.url}/webhooks/whatsapp"

    @property
    def webhooks(self) -> list[Webhook]:
        """Every body so far."""
        return self._seen.webhooks

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Every status so far, in the order of arrival."""
        return [status for webhook in self.webhooks for status in webhook.statuses]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Take webhooks."""
        router.add_post("/webhooks/whatsapp", self._take)

    async def wait_for_statuses(self, count: int) -> list[dict[str, Any]]:
        """Return the statuses once there are so many."""
        async with asyncio.timeout(20), self._seen.changed:
            await self._seen.changed.wait_for(lambda: len(self.statuses) >= count)
        return self.statuses

    async def wait_for_webhooks(self, count: int) -> list[Webhook]:
        """Return the bodies once there are so many."""
        async with asyncio.timeout(20), self._seen.changed:
            await self._seen.changed.wait_for(lambda: len(self.webhooks) >= count)
        return self.webhooks

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self._seen.changed:
            self.webhooks.append(Webhook(body, dict(request.headers)))
            self._seen.changed.notify_all()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)
