"""GET /static/...: what the pages need from us, each file with its hash in its name, so that a browser may keep it for good."""

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HASH_LENGTH = 12


def asset(name: str) -> str:
    """Return the path under which a file of ours is served."""
    return f"/static/{_hashed(name)}"


def _hashed(name: str) -> str:
    path = Path(name)
    return f"{path.stem}.{hashlib.sha256(_content(name)).hexdigest()[:_HASH_LENGTH]}{path.suffix}"


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


@cache
def _served() -> dict[str, str]:
    """Return which file each hashed name means."""
    return {_hashed(path.name): path.name for path in _FOLDER.iterdir() if path.suffix in _TYPES}


async def show_asset(request: Request) -> Response:
    """Answer one of the files there are; 404 for any other name."""
    name = _served().get(request.path_params["name"])
    if name is None:
        return Response(status_code=404)
    return Response(_content(name), media_type=_TYPES[Path(name).suffix], headers={"Cache-Control": "public, max-age=31536000, immutable"})


routes = [Route("/static/{name}", show_asset, methods=["GET"])]
