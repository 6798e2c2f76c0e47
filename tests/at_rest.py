"""Waits until an installation has come to rest after a load, and tells what history shows of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.driver import ACCOUNT, Load
from tests.installation import Outside

_ARRIVED = frozenset({"delivered", "read"})
_NOT_SENT = frozenset({"unknown", "rejected"})


@dataclass
class Shown:
    """What history shows of a load: `missing` says what it lacks, `unanswered` are the answers listed as unknown or rejected."""

    missing: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


async def at_rest(installation: Outside, load: Load, *, timeout_s: float = 60.0) -> Shown:
    """Return what history shows as soon as nothing of it is missing, or after `timeout_s` seconds what it shows then."""
    shown = Shown(missing=["anything"])
    deadline = asyncio.get_running_loop().time() + timeout_s
    while shown.missing and asyncio.get_running_loop().time() < deadline:
        shown = Shown()
        for conversation in range(load.conversations):
            status, page = await installation.get(f"/v1/conversations/wa:{ACCOUNT}:{load.phone(conversation)}/messages?limit=1000")
            _read(shown, load, conversation, page["messages"][::-1] if status == 200 else [])
        if shown.missing:
            await asyncio.sleep(0.2)
    return shown


def _read(shown: Shown, load: Load, conversation: int, messages: list[dict[str, Any]]) -> None:
    wanted = [load.text(conversation, number) for number in range(load.messages)]
    asked = [message["text"] for message in messages if message["direction"] == "in"]
    if asked != wanted:
        shown.missing.append(f"questions {asked} instead of {wanted}")
    sends = [message for message in messages if message["direction"] == "out"]
    answers = [send["text"] for send in sends]
    if answers != [f"echo: {text}" for text in wanted]:
        shown.missing.append(f"answers {answers} to {wanted}")
    for send in sends:
        if send["status"] in _NOT_SENT:
            shown.unanswered.append(send["text"])
        elif send["status"] not in _ARRIVED:
            shown.missing.append(f"{send['text']} is only {send['status']}")
        if len(send["platform_ids"]) > 1:
            shown.missing.append(f"{send['text']} was sent twice")
