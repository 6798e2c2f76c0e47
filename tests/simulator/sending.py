"""How tests send: one message in the platform's shape, and the answer read whole."""

from typing import Any

import aiohttp

from infra.simulator.platform import SimulatedPlatform

ACCOUNT = "106540352242922"


def text_message(body: str = "hello", **other: Any) -> dict[str, Any]:
    """Return a text send; `other` replaces or adds fields."""
    return {"messaging_product": "whatsapp", "to": "+16505550001", "type": "text", "text": {"body": body}} | other


async def send(client: aiohttp.ClientSession, platform: SimulatedPlatform, message: object) -> tuple[int, Any]:
    """Post a message; return the HTTP status and the decoded answer."""
    async with client.post(f"{platform.api_url}/{ACCOUNT}/messages", json=message) as answer:
        return answer.status, await answer.json()
