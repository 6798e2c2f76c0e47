"""`ottla conv`: a conversation's timeline, every message with every hop that is known of it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click

from infra.history_client import HistoryClient, history_client
from infra.ingress_client import IngressAwayError
from infra.settings import Settings, load_settings
from infra.terminal import harmless
from infra.timeline import message_lines

# With what history takes to write it, a hop is shown within a second.
_POLL_S = 0.4
_FOLLOWED = 100


@click.command("conv")
@click.argument("conversation", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="go on showing what is new, until Ctrl-C")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="for people or programs")
@click.option("--last", type=click.IntRange(min=1), help="only the newest messages, this many")
def command(*, conversation: str, follow: bool, output: str, last: int | None) -> None:
    """Show the timeline of a conversation: its key, or the phone number or user id of the contact."""
    asyncio.run(_show(load_settings(), conversation, follow=follow, as_json=output == "json", last=last))


async def _show(settings: Settings, name: str, *, follow: bool, as_json: bool, last: int | None) -> None:
    async with history_client(settings) as client:
        key = await client.conversation(name)
        messages = await client.messages(key, last=last)
        if follow:
            await _follow(client, key, messages, as_json=as_json)
        elif as_json:
            click.echo(json.dumps({"conversation": key, "messages": messages, "before": None}))
        else:
            _print(key, messages)


def _print(key: str, messages: Sequence[dict[str, Any]]) -> None:
    count = f"{len(messages)} message{'' if len(messages) == 1 else 's'}"
    lines = [f"{harmless(key)}: {count}, times in UTC"]
    for message in reversed(messages):
        lines += message_lines(message)
    click.echo("\n".join(lines))


async def _follow(client: HistoryClient, key: str, messages: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print the messages, then what is new of them, within a second."""
    shown: dict[str, int] = {}
    away = False
    while True:
        for message in reversed(messages):
            for line in news(message, shown, as_json=as_json):
                click.echo(line)
        await asyncio.sleep(_POLL_S)
        try:
            messages = await client.messages(key, last=_FOLLOWED)
            away = False
        except IngressAwayError as error:
            if not away:
                click.echo(f"{error} Waiting for it.", err=True)
            away, messages = True, []


def news(message: dict[str, Any], shown: dict[str, int], *, as_json: bool) -> list[str]:
    """Return the lines for what is new of a message, and note in `shown` how many of its hops were shown."""
    hops, known = len(message["hops"]), shown.get(message["id"])
    if known is not None and hops <= known:
        return []
    shown[message["id"]] = hops
    return [json.dumps(message)] if as_json else message_lines(message, hops_shown=known or 0)
