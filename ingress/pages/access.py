"""Who may see the pages: a session from the login form, or a bearer key. Every answer gets the headers that keep a browser on our side.

All forms are checked here, before any page sees them: a form without its session's token is refused, whatever page it is for.
"""

from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingress.auth import key_of_tenant, tenant_of_bearer
from ingress.body import BodyTooLargeError, BodyTooSlowError, read_body
from ingress.pages import sessions
from ingress.pages.render import error_page
from ingress.pages.sessions import Session

COOKIE = "ottla_session"
_OPEN = frozenset({"login", "static"})
_PAGES = frozenset({"", "audit", "conversations", "dead-letters", "events", "login", "logout", "records", "sends", "static", "topics"})
_FORM_FIELDS_MAX = 2_000
# Reading what is written as %41 takes half a microsecond a byte.
_FORM_BYTES_MAX, _LOGIN_BYTES_MAX = 256 * 1024, 16 * 1024
_SEE_OTHER = 303
_SAFE_METHODS = frozenset({"GET", "HEAD"})

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_page(path: str) -> bool:
    """Tell whether a path belongs to the pages."""
    return path.removeprefix("/").partition("/")[0] in _PAGES


class PageAccess:
    """ASGI middleware for the paths of the pages.

    Notes in `request.state` the caller's `tenant`, its `session` (None for a bearer key), the `form_token` and a posted `form`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer with the login form or the reason why not."""
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self._app(scope, receive, send)
            return
        answer = _with_headers(send)
        request = Request(scope, receive)
        state = scope.setdefault("state", {})
        state |= {"session": None, "form_token": "", "form": {}, "tenant": ""}
        refused = await _refusal(request, state)
        if refused is not None:
            await refused(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)


def session_of(request: Request) -> tuple[Session, bytes] | None:
    """Return the session of a request's cookie with the key that sealed it; None if there is none that counts."""
    cookie = request.cookies.get(COOKIE, "")
    said = sessions.claimed(cookie)
    if said is None:
        return None
    key = sealing_key_for(request, said.tenant)
    session = sessions.opened(cookie, key, now_s=now_s(request)) if key else None
    return (session, key) if session is not None and key is not None else None


def sealing_key_for(request: Request, tenant: str) -> bytes | None:
    """Return what seals sessions of a tenant; None if nobody can log in as it."""
    state = request.app.state
    own = key_of_tenant(tenant, state.settings, state.config)
    return None if own is None else sessions.sealing_key(state.settings.admin_key.get_secret_value(), own)


def now_s(request: Request) -> int:
    """Return the time, in seconds since 1970."""
    return int(request.app.state.clock.now_ms() // 1000)


def is_https(request: Request) -> bool:
    """Tell whether the browser speaks TLS, to us or to a proxy in front of us. Who lies about it spoils only a cookie of their own."""
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return (told or request.url.scheme) == "https"


def to_login(request: Request) -> Response:
    """Return the way to the login form, and from there back to what was asked for."""
    is_action = request.method not in _SAFE_METHODS
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = "" if is_action or path == "/" else "?" + urlencode({"next": path})
    if request.headers.get("hx-request"):
        # A redirect would put the form into the middle of a page.
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse(f"/login{query}", status_code=_SEE_OTHER)


async def _refusal(request: Request, state: dict[str, Any]) -> Response | None:
    """Return why a request goes no further; None if it may, with `state` filled in."""
    first = request.url.path.removeprefix("/").partition("/")[0]
    is_action = request.method not in _SAFE_METHODS
    # Browsers tell where a form comes from; those that do not are held by the token and by the cookie's SameSite.
    if is_action and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return error_page(request, 403, "This form comes from another site", "Open the page here and try again.")
    found = session_of(request)
    if found is not None:
        session, key = found
        state |= {"session": session, "tenant": session.tenant, "form_token": sessions.form_token(session, key)}
    elif first not in _OPEN:
        bearer = tenant_of_bearer(request.scope, request.app.state.settings, request.app.state.config)
        if bearer is None:
            return Response(status_code=401) if first == "events" else to_login(request)
        state["tenant"] = bearer
    # Only now: of strangers nothing is read but the form that they log in by.
    if is_action and not await _read_form(request, state, _LOGIN_BYTES_MAX if first in _OPEN else _FORM_BYTES_MAX):
        return error_page(request, 413, "This form is too large", "Choose fewer at a time.")
    # A browser sends no bearer key by itself, so nobody else can have made it do so: there needs no token.
    if is_action and found is not None and first not in _OPEN:
        given = request.headers.get("x-form-token") or next(iter(state["form"].get("form_token", [])), "")
        if not sessions.is_form_token(given, *found):
            return error_page(request, 403, "This form is from another session", "Load the page again, then repeat what you did.")
    return None


async def _read_form(request: Request, state: dict[str, Any], at_most: int) -> bool:
    """Note the posted form; False if it is larger than that, or did not come."""
    try:
        state["form"] = read_form(await read_body(request, at_most=at_most))
    except (BodyTooLargeError, BodyTooSlowError, ValueError):
        return False
    return True


def read_form(body: bytes) -> dict[str, list[str]]:
    """Return the fields of a form as browsers send it; ValueError for too many of them."""
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX)


def _with_headers(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return answer
