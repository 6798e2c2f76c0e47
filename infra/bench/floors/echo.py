"""Floor: a bare Starlette POST that answers with what it got."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.bench.floors.serving import serve


async def _echo(request: Request) -> Response:
    return Response(await request.body())


async def _alive(_: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/webhooks/whatsapp", _echo, methods=["POST"]), Route("/readyz", _alive)])

if __name__ == "__main__":
    serve(app)
