"""A browser as far as the bench needs one: it logs in through the form, asks for pages, and keeps one open for what changes on it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
import orjson

from infra.errors import OttlaError

_EVENT_END = b"\n\n"
_DATA = b"data: "
_PATIENCE_S = 30.0


class Answer(NamedTuple):
    """A page, and the seconds from its request until its answer began."""

    html: str
    first_byte_s: float


class Told(NamedTuple):
    """Something that an open page was told: when it was all there (time.perf_counter seconds), and the HTML of what is new or other."""

    at: float
    html: str


def events_in(data: bytearray) -> list[bytes]:
    """Take the whole events out of what came so far, and return what each of them holds; those that hold nothing are left out."""
    end = data.rfind(_EVENT_END)
    if end < 0:
        return []
    whole = bytes(data[:end])
    del data[: end + len(_EVENT_END)]
    lines = (line for event in whole.split(_EVENT_END) for line in event.split(b"\n"))
    return [line.removeprefix(_DATA) for line in lines if line.startswith(_DATA)]


class Browser:
    """Somebody who is logged in with a key; an async context manager. OttlaError for an answer that is no page."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_PATIENCE_S)
        # Cookies of an address, not of a name.
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=timeout)
        try:
            await self._log_in()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._logged_in.close()

    async def _log_in(self) -> None:
        async with self._logged_in.post(f"{self._url}/login", data={"key": self._key}, allow_redirects=False) as answer:
            if answer.status != 303:  # noqa: PLR2004
                raise OttlaError(f"The ingress let nobody log in: it answered {answer.status}.")

    async def get(self, path: str) -> Answer:
        """Ask for a page."""
        begun = time.perf_counter()
        async with asyncio.timeout(_PATIENCE_S), self._logged_in.get(self._url + path, allow_redirects=False) as answer:
            first_byte_s = time.perf_counter() - begun
            html = await answer.text()
        if answer.status != 200:  # noqa: PLR2004
            raise OttlaError(f"The ingress answered {answer.status} for {path}.")
        return Answer(html, first_byte_s)

    async def follow(self, path: str) -> AsyncGenerator[Told, None]:
        """Yield what an open page is told, all of it first; ends when the ingress ends it."""
        data = bytearray()
        async with self._logged_in.get(self._url + path) as answer:
            if answer.status != 200:  # noqa: PLR2004
                raise OttlaError(f"The ingress answered {answer.status} for {path}.")
            async for piece in answer.content.iter_any():
                data += piece
                for event in events_in(data):
                    yield Told(time.perf_counter(), orjson.loads(event)["html"])

    @property
    def _logged_in(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise OttlaError("nobody is logged in")
        return self._session
