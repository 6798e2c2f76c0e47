"""Who may see the pages and act on them, and what a browser is told to keep to."""

import re

import pytest
from starlette.routing import Route
from starlette.types import Message

from ingress.app import PAGES
from ingress.pages.access import COOKIE, is_page
from ingress.pages.login import local_path
from ingress.pages.sessions import LIFE_S
from schemas.events.config import Tenant
from tests.ingress.pages.site import ADMIN_KEY, TENANT_KEY, browser, form_token, site

ROUTES = [route for each in PAGES for route in each.routes]
FILLED = {"id:path": "wa:1:2", "id": "x", "message": "m", "topic": "raw", "partition": "0", "offset": "0", "name": "x.css"}


def path_of(route: Route) -> str:
    return re.sub(r"\{([^}]+)\}", lambda match: FILLED[match[1]], route.path)


def routes(method: str) -> list[str]:
    return sorted({path_of(route) for route in ROUTES if method in (route.methods or ())})


def test_every_route_is_looked_after() -> None:
    """A page whose path nobody guards would be open to all."""
    assert all(is_page(path_of(route)) for route in ROUTES)
    assert not any(is_page(path) for path in ("/v1/conversations", "/webhooks/whatsapp", "/health", "/metrics"))


@pytest.mark.parametrize("path", [path for path in routes("GET") if not path.startswith(("/login", "/static"))])
async def test_without_a_session_there_is_the_login_form(path: str) -> None:
    """And after it, what was asked for; a stream of changes is plainly refused."""
    async with browser(site()) as client:
        answer = await client.get(f"{path}?a=b")
        assert answer.status_code == (401 if path == "/events" else 303)
        assert path == "/events" or answer.headers["location"].startswith("/login?next=%2F")
        assert (await client.get(path, headers={"Authorization": "Bearer nobody"})).status_code in (401, 303)


@pytest.mark.parametrize("path", [path for path in routes("POST") if path != "/login"])
async def test_no_form_without_its_token(path: str) -> None:
    """Neither without a session, nor with one and no token, another one's token, or from another site."""
    app = site()
    async with browser(app) as client:
        answer = await client.post(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    async with browser(app, ADMIN_KEY) as client, browser(app, ADMIN_KEY) as other:
        theirs = form_token((await other.get("/conversations")).text)
        for data in ({}, {"form_token": ""}, {"form_token": theirs}):
            assert (await client.post(path, data=data)).status_code == 403
        assert (await client.post(path, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


@pytest.mark.parametrize("path", ["/login", "/conversations", "/conversations/wa:1:2", "/static/x.css", "/logout", "/conversations/x/y"])
async def test_every_answer_keeps_the_browser_on_our_side(path: str) -> None:
    """Whatever its status: no scripts or styles but ours, no frames, no guesses, no referrer."""
    async with browser(site()) as client:
        headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"], headers["cache-control"]) == (
        "nosniff",
        "no-referrer",
        "no-store",
    )


async def test_the_key_once_then_a_session() -> None:
    """The cookie is not for scripts nor other sites, lives 12 hours, and needs TLS where the browser has it."""
    async with browser(site()) as client:
        wrong = await client.post("/login", data={"key": "nobody's", "next": "/sends"})
        assert (wrong.status_code, COOKIE in client.cookies) == (403, False)
        assert "Nobody has this key" in wrong.text
        right = await client.post("/login", data={"key": f" {ADMIN_KEY}\n", "next": "/sends?x=y"})
        assert (right.status_code, right.headers["location"]) == (303, "/sends?x=y")
        flags = right.headers["set-cookie"].lower()
        assert all(flag in flags for flag in ("httponly", "samesite=strict", f"max-age={LIFE_S}", "path=/"))
        assert "secure" not in flags
        assert ADMIN_KEY not in right.headers["set-cookie"]
        assert (await client.get("/login")).status_code == 303
    async with browser(site()) as client:
        behind = await client.post("/login", data={"key": ADMIN_KEY}, headers={"X-Forwarded-Proto": "https"})
        assert "secure" in behind.headers["set-cookie"].lower()


async def test_a_session_ends() -> None:
    """After its time, on logging out, and when the key that began it is another one."""
    app = site()
    async with browser(app, ADMIN_KEY) as client:
        page = await client.get("/conversations")
        assert page.status_code == 503  # there is no Cassandra here, but somebody is in
        out = await client.post("/logout", data={"form_token": form_token(page.text)})
        assert (out.status_code, COOKIE in client.cookies) == (303, False)
        assert (await client.get("/conversations")).status_code == 303
    async with browser(app, ADMIN_KEY) as client:
        app.state.clock.by_s = LIFE_S + 1
        assert (await client.get("/conversations")).status_code == 303
        app.state.clock.by_s = 0
    async with browser(app, TENANT_KEY) as client:
        assert (await client.get("/conversations")).status_code == 503
        app.state.config.tenants["acme"] = Tenant(id="acme", key="another-key-of-it")
        assert (await client.get("/conversations")).status_code == 303
        app.state.config.tenants.clear()
        assert (await client.get("/conversations")).status_code == 303


async def test_a_bearer_key_needs_no_form_token() -> None:
    """No browser sends one by itself; what it reaches is its own tenant."""
    async with browser(site()) as client:
        for key in (ADMIN_KEY, TENANT_KEY):
            assert (await client.get("/conversations", headers={"Authorization": f"Bearer {key}"})).status_code == 503
        assert (await client.post("/logout", headers={"Authorization": f"Bearer {ADMIN_KEY}"})).status_code == 303


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/sends?a=b", "/sends?a=b"),
        ("", "/"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/é", "/"),
    ],
)
def test_the_login_leads_nowhere_else(given: str, path: str) -> None:
    """A link to the form cannot name another site as what comes after it."""
    assert local_path(given) == path


async def test_too_large_forms_are_refused() -> None:
    """Before anything is made of them."""
    async with browser(site()) as client:
        answer = await client.post("/login", content=b"&".join(b"a=1" for _ in range(5000)))
        assert answer.status_code == 413


async def posted(path: str, messages: list[Message], *, length: int | None = None) -> int:
    """Post to a page, message by message of what comes in; return the status of the answer. AssertionError if more is read than comes."""
    app, sent = site(), list[Message]()
    coming = iter(messages)

    async def receive() -> Message:
        message = next(coming, None)
        assert message is not None, "it reads on"
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app(scope | {"scheme": "http", "server": ("ingress", 80), "root_path": ""}, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_of_strangers_nothing_is_read() -> None:
    """But the form that they log in by, which is small."""
    assert await posted("/conversations", []) == 303
    assert await posted("/login", [], length=17_000) == 413
    assert await posted("/login", [{"type": "http.request", "body": b"a" * 9_000, "more_body": True}] * 2) == 413


async def test_a_browser_that_leaves_in_the_middle_of_a_form_is_no_error() -> None:
    """It would be one of ours, with its stack in the log, that anybody can cause."""
    half: Message = {"type": "http.request", "body": b"key=", "more_body": True}
    assert await posted("/login", [half, {"type": "http.disconnect"}]) == 413


async def test_what_is_asked_for_comes_back_short() -> None:
    """The login form names where it leads to; nobody has us write megabytes of it."""
    async with browser(site()) as client:
        wrong = await client.post("/login", data={"key": "x", "next": "/" + "'" * 5_000})
        assert (wrong.status_code, len(wrong.text) < 20_000) == (403, True)


async def test_unknown_pages_say_so_in_a_sentence() -> None:
    """As a page, with the way back."""
    async with browser(site(), ADMIN_KEY) as client:
        answer = await client.get("/sends/no/such/page")
        assert answer.status_code == 404
        assert "There is no such page" in answer.text
