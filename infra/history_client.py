"""History over the ingress's HTTP interface, with the administrator's key, for commands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from infra.errors import NotFoundError, OttlaError, UsageError
from infra.settings import Settings

_TIMEOUT_S = 15.0
_PAGE = 500
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
_SEVERAL_SHOWN = 5

Page = dict[str, Any]


class IngressAwayError(OttlaError):
    """The ingress does not answer, or cannot read history just now."""


class HistoryClient:
    """Asks one ingress. Make it with `history_client`."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def conversation(self, name: str) -> str:
        """Return the key that `name` means: itself if it is a key, else that of the one conversation with this phone number or user id.

        Raises NotFoundError if there is none, UsageError if there are several.
        """
        if ":" in name:
            return name
        page = await self._get(f"/v1/conversations?{urlencode({'contact': name})}", missing=name)
        keys = sorted({each["conversation"] for each in page["conversations"]})
        if not keys:
            raise NotFoundError(f"There is no conversation with {name!r}: `ottla trigger text --from {quote(name)}` starts one.")
        if len(keys) > 1:
            raise UsageError(f"{name!r} has {len(keys)} conversations: name one of {', '.join(keys[:_SEVERAL_SHOWN])}.")
        return str(keys[0])

    async def messages(self, conversation: str, *, last: int | None = None) -> list[dict[str, Any]]:
        """Return a conversation's messages, newest first, all or the `last` ones; NotFoundError if there is none."""
        messages: list[dict[str, Any]] = []
        before: str | None = ""
        while before is not None and (last is None or len(messages) < last):
            asked = {"limit": str(_PAGE if last is None else min(_PAGE, last - len(messages)))} | ({"before": before} if before else {})
            page = await self._get(f"/v1/conversations/{quote(conversation, safe='')}/messages?{urlencode(asked)}", missing=conversation)
            messages += page["messages"]
            before = page["before"]
        return messages

    async def _get(self, path: str, *, missing: str) -> Page:
        try:
            async with self._session.get(self._base + path) as answer:
                if answer.status == 200:  # noqa: PLR2004
                    page: Page = await answer.json()
                    return page
                detail = (await answer.json(content_type=None)).get("detail", "")
        except aiohttp.ClientConnectorError:
            raise IngressAwayError(f"No ingress listens at {self._base}: start one with `ottla up`.") from None
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            raise IngressAwayError(f"What listens at {self._base} did not answer as our ingress does ({_why(error)}).") from None
        if answer.status == 404:  # noqa: PLR2004
            raise NotFoundError(f"There is no conversation {missing!r} in history.")
        if answer.status == 401:  # noqa: PLR2004
            raise OttlaError(f"The ingress at {self._base} has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME to the one it runs with.")
        raise IngressAwayError(f"The ingress at {self._base} cannot answer: {detail or answer.status}")


def _why(error: Exception) -> str:
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__


@asynccontextmanager
async def history_client(settings: Settings) -> AsyncIterator[HistoryClient]:
    """Yield a client of the ingress of these settings."""
    headers = {"Authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
    base = f"http://{_EVERYWHERE.get(settings.host, settings.host)}:{settings.port}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
        yield HistoryClient(session, base)
