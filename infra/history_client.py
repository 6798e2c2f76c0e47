"""History over the ingress's HTTP interface, with the administrator's key, for commands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

from infra.errors import NotFoundError, UsageError
from infra.ingress_client import IngressAwayError, IngressClient, ingress_client
from infra.settings import Settings

_PAGE = 500
_SEVERAL_SHOWN = 5
_OK, _NOT_FOUND = 200, 404

Page = dict[str, Any]


class HistoryClient:
    """Asks one ingress. Make it with `history_client`."""

    def __init__(self, ingress: IngressClient) -> None:
        self._ingress = ingress

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
        status, page = await self._ingress.call("GET", path)
        if status == _NOT_FOUND:
            raise NotFoundError(f"There is no conversation {missing!r} in history.")
        if status != _OK:
            raise IngressAwayError(f"The ingress at {self._ingress.url} cannot answer: {page.get('detail') or status}")
        return page


@asynccontextmanager
async def history_client(settings: Settings) -> AsyncIterator[HistoryClient]:
    """Yield a client of the ingress of these settings."""
    async with ingress_client(settings) as ingress:
        yield HistoryClient(ingress)
