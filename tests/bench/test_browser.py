"""The browser of the bench: logged in as people are, and told what changes on an open page in whatever pieces it comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from infra.bench.browser import Browser, events_in
from infra.errors import OttlaError
from infra.servers.state import free_ports

STREAM = b'retry: 2000\n\nevent: items\ndata: {"html":"<li>one</li>","ids":null}\n\nevent: items\ndata: {"html":"","ids":[]}\n\n'
EVENTS = [b'{"html":"<li>one</li>","ids":null}', b'{"html":"","ids":[]}']


@pytest.mark.parametrize("size", [1, 7, len(STREAM)])
def test_events_cut_anywhere(size: int) -> None:
    """Each comes once, when all of it is there."""
    data, found = bytearray(), []
    for start in range(0, len(STREAM), size):
        data += STREAM[start : start + size]
        found += events_in(data)
    assert found == EVENTS
    assert not data


async def log_in(request: web.Request) -> web.Response:
    answer = web.Response(status=303 if (await request.post())["key"] == "right" else 403)
    answer.set_cookie("session", "sealed")
    return answer


async def show(request: web.Request) -> web.Response:
    await asyncio.sleep(0.05)
    return web.Response(text="a page", status=200 if request.cookies.get("session") == "sealed" else 303)


async def tell(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(STREAM)
    return answer


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """Yield the URL of a site with a login, a page that takes 50 ms, and one that does not end."""
    app = web.Application()
    app.add_routes([web.post("/login", log_in), web.get("/page", show), web.get("/events", tell)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_a_page_and_when_it_began() -> None:
    """With the cookie that the login gave; what is no page is said to be none."""
    async with site() as url, Browser(url, "right") as browser:
        answer = await browser.get("/page")
        assert answer.html == "a page"
        assert 0.05 <= answer.first_byte_s < 5
        with pytest.raises(OttlaError, match="404 for /nowhere"):
            await browser.get("/nowhere")


async def test_what_an_open_page_is_told() -> None:
    """Until the other side ends it."""
    async with site() as url, Browser(url, "right") as browser, aclosing(browser.follow("/events")) as told:
        seen = [each async for each in told]
    assert [each.html for each in seen] == ["<li>one</li>", ""]
    assert seen[0].at <= seen[1].at


async def test_a_wrong_key() -> None:
    """Is said to be one before anything is measured."""
    async with site() as url:
        with pytest.raises(OttlaError, match="let nobody log in: it answered 403"):
            async with Browser(url, "wrong"):
                pass
