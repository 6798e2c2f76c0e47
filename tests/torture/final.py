"""Asks an installation, when all has come to rest, what it knows: history, the list of unknown sends, the dead letters."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

from infra.settings import Settings
from schemas.codec import DecodeError, decode
from schemas.events.canary import is_canary
from schemas.events.dead_letter import read_dead_letter
from schemas.events.inbound import InboundEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.events.webhook_part import WebhookPart
from schemas.topics import DEAD_LETTERS, INBOUND, OUTBOUND, SENT
from tests.installation import Outside
from tests.reading import records
from tests.torture.history import HistoryWriter, Letter, Listed, Reading, Recorded
from tests.torture.progress import Groups

_SIDE_BY_SIDE = 8
_PAGE = 500
_PAUSE_S = 0.5
_PATIENCE_S = 60.0
_NOT_FOUND = 404


class Named(NamedTuple):
    """The ids that a record's value holds: of messages that came in, and of sends."""

    messages: list[str]
    sends: list[str]


async def write_final(outside: Outside, conversations: Iterable[str], writer: HistoryWriter, *, caught_up_s: float = 180.0) -> bool:
    """Write the final readings, the outcomes of sends, the list of unknown ones and the dead letters.

    First it waits until every group has read its topics to the end; False if that took longer than `caught_up_s`, all is written then, too.
    """
    has_caught_up = await caught_up(outside.settings, timeout_s=caught_up_s)
    await write_readings(outside, conversations, writer, final=True)
    for record in await records(outside.settings, SENT.name):
        if not is_canary(record.key):
            sent = decode(record.value, SentEvent)
            writer.write(Recorded(at=record.timestamp / 1000, send=sent.id, outcome=sent.outcome))
    async for send in _pages(outside, "/v1/sends?outcome=unknown", "sends"):
        writer.write(Listed(at=time.time(), send=send["id"], conversation=send["conversation"]))
    for record in await records(outside.settings, DEAD_LETTERS.name):
        writer.write(letter_of(record.key, record.value, record.headers))
    return has_caught_up


async def write_readings(outside: Outside, conversations: Iterable[str], writer: HistoryWriter, *, final: bool) -> None:
    """Write what history shows of conversations, some side by side; one that it does not have has nothing to show.

    Raises TimeoutError if history cannot be read for a minute.
    """
    todo = iter(dict.fromkeys(conversations))

    async def work() -> None:
        for conversation in todo:
            path = f"/v1/conversations/{quote(conversation, safe='')}/messages?"
            async for message in _pages(outside, path, "messages"):
                writer.write(_reading(message, final=final))

    async with asyncio.TaskGroup() as group:
        for _ in range(_SIDE_BY_SIDE):
            group.create_task(work())


async def caught_up(settings: Settings, *, timeout_s: float) -> bool:
    """Wait until every group has read its topics to the end; False if it has not in time."""
    groups = Groups(settings)
    until = time.monotonic() + timeout_s
    while any((await groups.lag()).values()):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_PAUSE_S)
    return True


def _reading(message: dict[str, Any], *, final: bool) -> Reading:
    out = message["direction"] == "out"
    return Reading(
        at=time.time(),
        conversation=message["conversation"],
        id=message["id"] if out else message["platform_id"],
        direction=message["direction"],
        status=message["status"],
        platform_id=message["platform_id"],
        settled=message["settled"],
        final=final,
    )


async def _pages(outside: Outside, path: str, name: str) -> AsyncIterator[dict[str, Any]]:
    before: str | None = ""
    while before is not None:
        page = await _get(outside, f"{path}&limit={_PAGE}" + (f"&before={quote(before, safe='')}" if before else ""))
        for each in page.get(name, ()):
            yield each
        before = page.get("before")


async def _get(outside: Outside, path: str) -> dict[str, Any]:
    """Ask until there is an answer; an empty one for what is not there."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                status, page = await outside.get(path)
            except (OSError, aiohttp.ClientError, ValueError):
                status, page = 0, {}
            if status in {200, _NOT_FOUND}:
                return page if status == 200 else {}
            await asyncio.sleep(_PAUSE_S)


def letter_of(key: bytes | None, value: bytes, headers: Iterable[tuple[str, bytes]]) -> Letter:
    """Return the entry for a record of [dead-letters]; ValueError if its headers are not those of one."""
    letter = read_dead_letter(list(headers))
    named = named_in(letter.topic, value)
    return Letter(
        at=letter.at / 1000,
        conversation=(key or b"").decode(),
        stage=letter.stage,
        cause=letter.cause,
        messages=named.messages,
        sends=named.sends,
    )


def named_in(topic: str, value: bytes) -> Named:
    """Return the ids in the value of a record that stood in this topic, also where it is a webhook body that nobody could split."""
    try:
        if topic == INBOUND.name:
            return Named([decode(value, InboundEvent).platform_id], [])
        if topic == SENT.name:
            return Named([], [decode(value, SentEvent).id])
        if topic in {each.name for each in OUTBOUND.values()}:
            return Named([], [decode(value, OutboundEvent).id])
        items = [json.loads(bytes(item)) for change in decode(value, WebhookPart).changes for item in change.items]
    except (DecodeError, ValueError):
        return Named(_ids(_messages_of(value)), [])
    return Named(_ids(items), [])


def _messages_of(body: bytes) -> list[Any]:
    try:
        entries = json.loads(body)["entry"]
        return [item for entry in entries for change in entry["changes"] for item in change["value"].get("messages", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _ids(items: Iterable[Any]) -> list[str]:
    return [item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
