"""Reads conversations back over the HTTP API, as anybody would."""

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import quote

import aiohttp
import msgspec

from infra.errors import OttlaError

_PAGE = 100
_READERS = 16
_PAUSE_S = 0.5


class ApiStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One status of a message."""

    status: str


class ApiMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message as the API shows it."""

    id: str
    direction: str
    platform_id: str | None = ""
    text: str | None = ""
    status: str | None = ""
    statuses: list[ApiStatus] = []

    @property
    def status_names(self) -> set[str]:
        """Every status it has."""
        return {status.status for status in self.statuses}


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    messages: list[ApiMessage]
    before: msgspec.Raw = msgspec.Raw(b"null")


Histories = dict[str, list[ApiMessage]]


async def read_histories(
    keys: Sequence[str], *, url: str, admin_key: str, complete: Callable[[str, Sequence[ApiMessage]], bool], patience_s: float
) -> Histories:
    """Return each conversation's messages, oldest first, read again until `complete` or out of patience.

    Raises OttlaError with a sentence if the API refuses.
    """
    histories: Histories = {}
    waiting = iter(keys)
    headers = {"Authorization": f"Bearer {admin_key}"}
    async with aiohttp.ClientSession(url, headers=headers) as session, asyncio.TaskGroup() as group:
        deadline = asyncio.get_running_loop().time() + patience_s

        async def read_next() -> None:
            for key in waiting:
                histories[key] = await _read(session, key)
                while not complete(key, histories[key]) and asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(_PAUSE_S)
                    histories[key] = await _read(session, key)

        for _ in range(_READERS):
            group.create_task(read_next())
    return histories


async def _read(session: aiohttp.ClientSession, key: str) -> list[ApiMessage]:
    newest_first: list[ApiMessage] = []
    before = ""
    while True:
        parameters = {"limit": str(_PAGE)} | ({"before": before} if before else {})
        async with session.get(f"/v1/conversations/{quote(key, safe=':')}/messages", params=parameters) as answer:
            body = await answer.read()
        if answer.status == 404:  # noqa: PLR2004  # nothing of it is written yet
            return []
        if answer.status == 503:  # noqa: PLR2004  # it says itself that it cannot read now
            return []
        page = _decode(answer.status, body)
        newest_first += page.messages
        token = msgspec.json.decode(page.before)
        if token is None or not page.messages:
            return newest_first[::-1]
        before = str(token)


def _decode(status: int, body: bytes) -> _Page:
    if status != 200:  # noqa: PLR2004
        raise OttlaError(f"The API answered {status} when it was asked for a conversation: {body[:200].decode(errors='replace')}.")
    try:
        return msgspec.json.decode(body, type=_Page)
    except msgspec.DecodeError as error:
        raise OttlaError(f"The API's answer is not what the contract says: {error}.") from None
