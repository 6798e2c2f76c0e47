"""`ottla sends`: the sends of which nobody knows whether they arrived, and sending one of them again."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from infra.cli.output import output_option, show
from infra.errors import NotFoundError, OttlaError, RefusedError
from infra.ingress_client import IngressClient, ingress_client
from infra.settings import Settings, load_settings

_OK, _QUEUED, _NOT_FOUND, _REFUSED = 200, 202, 404, 409
_TITLES = {"id": "id", "at": "since", "conversation": "conversation", "attempts": "attempts", "error": "error", "text": "text"}
_SHOWN_MAX = 60


@click.group("sends")
def command() -> None:
    """List the sends whose answer was lost, or send them again."""


@command.command("list")
@output_option
def list_(output: str) -> None:
    """List every send that is unknown or parked; one that a status has settled, or that was sent again, is not there any more."""
    sends = asyncio.run(_list(load_settings()))
    if output == "json":
        show(output, sends, titles=_TITLES)
    elif not sends:
        click.echo("None is unknown: every send that was tried has its outcome.")
    else:
        show(output, [send | {"error": _short(send["error"]), "text": _short(send["text"])} for send in sends], titles=_TITLES)


@command.command("resend")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="only tell what would be sent")
def resend(*, ids: tuple[str, ...], dry_run: bool) -> None:
    """Send each ID once more, as a new send; if one of them must not be sent again, none is.

    It may arrive twice: nobody knows whether it did the first time.
    """
    asyncio.run(_resend(load_settings(), list(dict.fromkeys(ids)), dry_run=dry_run))


async def _list(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before: str | None = ""
    async with ingress_client(settings) as client:
        while before is not None:
            status, page = await client.call("GET", f"/v1/sends?outcome=unknown&limit=1000&before={quote(before, safe='')}")
            if status != _OK:
                raise OttlaError(f"The list cannot be read: {page.get('detail') or status}")
            found += page["sends"]
            before = page["before"]
    return found


async def _resend(settings: Settings, ids: Sequence[str], *, dry_run: bool) -> None:
    async with ingress_client(settings) as client:
        planned = [await _retry(client, each, dry_run=True) for each in ids]
        for each, plan in zip(ids, planned, strict=True):
            if dry_run:
                click.echo(f"Would send {each} again as {plan['id']}.")
                continue
            answer = await _retry(client, each, dry_run=False)
            click.echo(f"Queued {each} again as {answer['id']}. Next: `ottla conv {answer['conversation']}`.")


async def _retry(client: IngressClient, send: str, *, dry_run: bool) -> dict[str, Any]:
    query = "?dry_run=true" if dry_run else ""
    status, answer = await client.call("POST", f"/v1/messages/{quote(send, safe='')}/retry{query}")
    detail = answer.get("detail") or status
    if status == _NOT_FOUND:
        raise NotFoundError(f"There is no send {send}: `ottla sends list` names the unknown ones.")
    if status == _REFUSED:
        raise RefusedError(str(detail))
    if status not in {_OK, _QUEUED}:
        raise OttlaError(f"The ingress did not queue {send}: {detail}")
    return answer


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_MAX else line[: _SHOWN_MAX - 1] + "…"
