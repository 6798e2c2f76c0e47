"""Plain: a Faust agent that skips ids its table has, asks the model, and sends the answer on. Run by `faust -A infra.bench.plain.agent`."""

from typing import Any

import aiohttp
import faust

from infra.bench.plain import AGENT, INBOUND, OUTBOUND
from infra.settings import load_settings

_settings = load_settings()
app = faust.App(
    _settings.topic_prefix + AGENT,
    broker=";".join(f"kafka://{server.strip()}" for server in _settings.kafka.split(",")),
    datadir=_settings.home / AGENT,
    store="rocksdb://",
    autodiscover=False,
    web_enabled=False,
    topic_partitions=_settings.partitions,
)
_inbound = app.topic(_settings.topic_prefix + INBOUND, value_serializer="json")
_outbound = app.topic(_settings.topic_prefix + OUTBOUND, value_serializer="json")
_seen = app.Table("seen", default=bool, partitions=_settings.partitions)
_sessions: list[aiohttp.ClientSession] = []


@app.agent(_inbound)  # type: ignore[untyped-decorator]
async def answer(messages: Any) -> None:
    """Answer each message once."""
    async for message in messages:
        if _seen[message["id"]]:
            continue
        _seen[message["id"]] = True
        text = await _ask(message["text"]["body"])
        await _outbound.send(key=message["from"], value={"to": message["from"], "text": text})


async def _ask(text: str) -> str:
    if not _sessions:
        _sessions.append(aiohttp.ClientSession())
    wanted = {"model": "plain", "messages": [{"role": "user", "content": text}]}
    async with _sessions[0].post(f"{_settings.ai_url}/chat/completions", json=wanted) as reply:
        return str((await reply.json())["choices"][0]["message"]["content"])
