"""Stands in for Ottla: takes webhooks, drops duplicates, answers each message once and in order, and shows it over the API.

`sabotage` makes it break one promise, so that the demo's check can be seen to find it.
"""

import asyncio
from collections import defaultdict
from typing import Any

import aiohttp
from aiohttp import web

from infra.simulator.faults import Faults
from infra.simulator.freshen import change_values
from infra.simulator.server import SimulatedServer, json_response
from schemas.ids import callback_data, conversation_key, event_id, send_id


class StubOttla(SimulatedServer):
    """Answers through the platform at `platform_api`."""

    def __init__(self, *, port: int, platform_api: str, sabotage: str = "") -> None:
        super().__init__(port=port, faults=Faults(frozenset(), seed=1))
        self._platform_api = platform_api
        self._sabotage = sabotage
        self._seen: set[str] = set()
        self._answered = 0
        self._histories: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._lanes: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(headers={"Authorization": "Bearer token"})
        await super().start()

    async def stop(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await super().stop()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Take webhooks and show histories."""
        router.add_post("/webhooks/whatsapp", self._take)
        router.add_get("/v1/conversations/{id}/messages", self._show)

    async def _take(self, request: web.Request) -> web.Response:
        for value in change_values(await request.json()):
            account = value["metadata"]["phone_number_id"]
            for message in value.get("messages", []):
                self._take_message(account, message)
            for status in value.get("statuses", []):
                self._take_status(status)
        return web.Response()

    def _take_message(self, account: str, message: dict[str, Any]) -> None:
        key = conversation_key(channel="wa", account=account, contact=message["from"])
        if message["id"] in self._seen and self._sabotage != "answer duplicates":
            return
        first = message["id"] not in self._seen
        self._seen.add(message["id"])
        if first and not (self._sabotage == "forget history" and len(self._seen) == 3):
            entry = {"id": event_id(key, message["id"]), "direction": "in", "platform_id": message["id"], "text": message["text"]["body"]}
            self._histories[key].append(entry)
        if self._sabotage == "lose" and len(self._seen) == 3:
            return
        task = asyncio.create_task(self._answer(key, account, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, key: str, account: str, message: dict[str, Any]) -> None:
        if self._sabotage == "reorder" and len(self._histories[key]) == 1:
            await asyncio.sleep(0.2)
        async with self._lanes[key]:
            send = send_id(conversation=key, cause=event_id(key, message["id"]), step="reply")
            text = f"You wrote: {message['text']['body']}"[:4096]
            body = {"messaging_product": "whatsapp", "to": message["from"], "type": "text", "text": {"body": text}}
            body["biz_opaque_callback_data"] = callback_data(send=send, conversation=key)
            self._answered += 1
            for _ in range(2 if self._sabotage == "send twice" and self._answered == 3 else 1):
                async with self._session.post(f"{self._platform_api}/{account}/messages", json=body) as answer:
                    platform_id = (await answer.json())["messages"][0]["id"]
            self._histories[key].append({"id": send, "direction": "out", "platform_id": platform_id, "text": text, "statuses": []})

    def _take_status(self, status: dict[str, Any]) -> None:
        for history in self._histories.values():
            for entry in history:
                if entry["platform_id"] == status["id"]:
                    entry["statuses"].append({"status": status["status"], "at": "2026-11-21T07:00:00.000Z"})

    async def _show(self, request: web.Request) -> web.Response:
        history = self._histories.get(request.match_info["id"], [])[::-1]
        start = int(request.query.get("before", "0"))
        page, more = history[start : start + 5], start + 5 < len(history)
        return json_response({"messages": page, "before": str(start + 5) if more else None})
