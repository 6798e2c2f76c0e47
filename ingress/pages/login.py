"""/login and /logout: the key once, then a session."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ingress.auth import tenant_of_key
from ingress.pages import sessions
from ingress.pages.access import COOKIE, is_https, now_s, sealing_key_for
from ingress.pages.render import page

_SEE_OTHER = 303
_PRINTABLE_FROM = 0x21
_PATH_LENGTH_MAX = 2_000


async def show_login(request: Request) -> Response:
    """Show the form; who is logged in already goes on."""
    if request.state.session is not None:
        return RedirectResponse(local_path(request.query_params.get("next", "")), status_code=_SEE_OTHER)
    return page(request, "login.html", next=request.query_params.get("next", "")[:_PATH_LENGTH_MAX], wrong=False)


async def log_in(request: Request) -> Response:
    """Begin a session for a known key and go on to what was asked for; show the form again for any other."""
    form: dict[str, list[str]] = request.state.form
    given, way = (next(iter(form.get(name, [])), "") for name in ("key", "next"))
    way = way[:_PATH_LENGTH_MAX]
    tenant = tenant_of_key(given.strip().encode("utf-8", "replace"), request.app.state.settings, request.app.state.config)
    seal_with = None if tenant is None else sealing_key_for(request, tenant)
    if tenant is None or seal_with is None:
        return page(request, "login.html", status=403, next=way, wrong=True)
    response = RedirectResponse(local_path(way), status_code=_SEE_OTHER)
    session = sessions.new_session(tenant, now_s=now_s(request))
    _set_cookie(request, response, sessions.seal(session, seal_with), sessions.LIFE_S)
    return response


async def log_out(request: Request) -> Response:
    """Forget the session."""
    response = RedirectResponse("/login", status_code=_SEE_OTHER)
    _set_cookie(request, response, "", 0)
    return response


def local_path(given: str) -> str:
    """Return a path of ours to go on to; what leads elsewhere, or is no path, becomes the first page."""
    parts = urlsplit(given) if given.isascii() and all(ord(character) >= _PRINTABLE_FROM for character in given) else None
    if parts is None or parts.scheme or parts.netloc or not given.startswith("/") or given.startswith("//") or "\\" in given:
        return "/"
    return given


def _set_cookie(request: Request, response: Response, value: str, max_age_s: int) -> None:
    response.set_cookie(COOKIE, value, max_age=max_age_s, path="/", secure=is_https(request), httponly=True, samesite="strict")


routes = [
    Route("/login", show_login, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]
