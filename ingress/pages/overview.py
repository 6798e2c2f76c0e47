"""/: for now the list of conversations."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route


async def show_overview(_: Request) -> Response:
    """Lead to the conversations."""
    return RedirectResponse("/conversations", status_code=303)


routes = [Route("/", show_overview, methods=["GET"])]
