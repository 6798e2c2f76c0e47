"""Plain: Starlette that checks the signature, parses the body and waits until the broker has each of its messages and statuses."""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.bench.floors.serving import serve
from infra.bench.plain import INBOUND, STATUSES
from infra.settings import load_settings
from infra.simulator.signing import SIGNATURE_HEADER


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    settings = load_settings()
    app.state.prefix, app.state.secret = settings.topic_prefix, settings.app_secrets[0]
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as app.state.producer:
        yield


async def _take(request: Request) -> Response:
    body, state = await request.body(), request.app.state
    expected = "sha256=" + hmac.digest(state.secret, body, "sha256").hex()
    if not hmac.compare_digest(request.headers.get(SIGNATURE_HEADER, ""), expected):
        return Response(status_code=401)
    for topic, key, value in _events(orjson.loads(body)):
        await state.producer.send_and_wait(state.prefix + topic, key=key.encode(), value=orjson.dumps(value))
    return Response()


def _events(body: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return topic, key and value of each message and status."""
    values = [change["value"] for entry in body["entry"] for change in entry["changes"]]
    messages = [(INBOUND, each["from"], each) for value in values for each in value.get("messages", ())]
    return messages + [(STATUSES, each["recipient_id"], each) for value in values for each in value.get("statuses", ())]


async def _alive(_: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/webhooks/whatsapp", _take, methods=["POST"]), Route("/readyz", _alive)], lifespan=_lifespan)

if __name__ == "__main__":
    serve(app)
