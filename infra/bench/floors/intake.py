"""Floor: Starlette that checks the signature, parses the body, and answers when the broker has acknowledged it."""

import hmac
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.bench.floors import TOPICS
from infra.bench.floors.serving import serve
from infra.kafka.producer import Producer
from infra.settings import load_settings
from infra.simulator.signing import SIGNATURE_HEADER


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    settings = load_settings()
    app.state.producer, app.state.secret = Producer(settings, client_id=f"floor-{uuid.uuid4().hex[:8]}"), settings.app_secrets[0]
    await app.state.producer.start()
    yield
    await app.state.producer.stop()


async def _take(request: Request) -> Response:
    body = await request.body()
    expected = "sha256=" + hmac.digest(request.app.state.secret, body, "sha256").hex()
    if not hmac.compare_digest(request.headers.get(SIGNATURE_HEADER, ""), expected):
        return Response(status_code=401)
    contact = msgspec.json.decode(body)["entry"][0]["changes"][0]["value"]["contacts"][0]["wa_id"]
    await request.app.state.producer.send(TOPICS["intake"], key=contact.encode(), value=body)
    return Response()


async def _alive(_: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/webhooks/whatsapp", _take, methods=["POST"]), Route("/readyz", _alive)], lifespan=_lifespan)

if __name__ == "__main__":
    serve(app)
