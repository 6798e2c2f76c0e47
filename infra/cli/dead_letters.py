"""`ottla dead-letters`: what could not be handled, and handling it again."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import click

from infra.cli.output import output_option, show
from infra.errors import NotFoundError, OttlaError, RefusedError, UsageError
from infra.ingress_client import IngressClient, ingress_client
from infra.settings import Settings, load_settings
from infra.terminal import harmless

_OK, _REDRIVEN, _NOT_FOUND, _REFUSED = 200, 202, 404, 409
_TITLES = {"id": "id", "at": "at", "state": "state", "stage": "stage", "cause": "cause", "conversation": "conversation", "error": "error"}
_GROUP_TITLES = {"stage": "stage", "cause": "cause", "open": "open", "redriven": "redriven", "first": "first", "last": "last"}
_SHOWN_MAX = 60
_PAGE = 1000
_BAR_FROM = 20


@click.group("dead-letters")
def command() -> None:
    """List what could not be handled, show one, or have them handled again."""


@command.command("list")
@output_option
@click.option("--cause", default="", help="only those of this cause")
@click.option("--stage", default="", help="only those of this stage, such as streams or sender")
@click.option("--conversation", default="", help="only those of this conversation's key")
@click.option("--state", type=click.Choice(["open", "redriven"]), help="only those that were not redriven, or were")
@click.option("--by-cause", is_flag=True, help="count them by stage and cause")
@click.option("--limit", default=10_000, show_default=True, type=click.IntRange(min=1), help="only the newest, this many")
def list_(*, output: str, cause: str, stage: str, conversation: str, state: str | None, by_cause: bool, limit: int) -> None:
    """List dead letters, newest first; they are kept 30 days. One whose redrive failed again has a newer letter of its own."""
    wanted = {"cause": cause, "stage": stage, "conversation": conversation, "state": state or ""}
    found = asyncio.run(_grouped(load_settings(), wanted) if by_cause else _listed(load_settings(), wanted, limit))
    if output == "json":
        show(output, found, titles=_TITLES)
    elif not found:
        click.echo("There is none: every event was handled.")
    elif by_cause:
        show(output, found, titles=_GROUP_TITLES)
    else:
        show(output, [letter | {"error": _short(letter["error"])} for letter in found], titles=_TITLES)


@command.command("show")
@click.argument("letter", metavar="ID")
@output_option
def show_(*, letter: str, output: str) -> None:
    """Show all that is known of one, with its stack and the original bytes."""
    found = asyncio.run(_shown(load_settings(), letter))
    if output == "json":
        show(output, [found], titles=_TITLES)
        return
    stack, original = found.pop("stack"), found.pop("original") or found["original_missing"]
    for name, value in found.items():
        click.echo(f"{name:<17} {harmless(str(value))}")
    for title, text in (("stack", stack), ("original", original)):
        click.echo(f"\n{title}:")
        click.echo("\n".join(harmless(line) for line in text.splitlines()))


@command.command("redrive")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--cause", default="", help="every open one of this cause")
@click.option("--stage", default="", help="of these only those of this stage, such as streams or sender")
@click.option("--all", "everything", is_flag=True, help="every open one")
@click.option("--execute", is_flag=True, help="do it; without this it is only told what would be done")
@click.option("--again", is_flag=True, help="also those of the IDs that were redriven before")
def redrive(*, ids: tuple[str, ...], cause: str, stage: str, everything: bool, execute: bool, again: bool) -> None:
    """Put the original events back where they came from, oldest first, so that they are handled again.

    Nothing is answered or sent twice by it: what was sent is known by its id. If one of the IDs must not be redriven, none is.
    """
    if [bool(ids), bool(cause), everything].count(True) != 1:
        raise UsageError("Say which ones: IDs, --cause CAUSE or --all (`ottla dead-letters list --by-cause` counts them).")
    if stage and ids:
        raise UsageError("--stage goes with --cause or --all: IDs say all there is to say.")
    if again and not ids:
        raise UsageError("--again is for IDs: --cause and --all mean those that were not redriven yet.")
    settings = load_settings()
    if ids:
        asyncio.run(_redrive_ids(settings, list(dict.fromkeys(ids)), execute=execute, again=again))
    else:
        asyncio.run(_redrive_many(settings, ({"cause": cause} if cause else {"all": True}) | {"stage": stage}, execute=execute))


async def _listed(settings: Settings, wanted: dict[str, str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with ingress_client(settings) as client:
        async for page in _pages(client, wanted | {"limit": str(min(limit, _PAGE))}):
            found += page["dead_letters"]
            if len(found) >= limit:
                break
    return found[:limit]


async def _grouped(settings: Settings, wanted: dict[str, str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    async with ingress_client(settings) as client:
        async for page in _pages(client, wanted | {"group": "cause"}):
            for group in page["groups"]:
                known = groups.setdefault((group["stage"], group["cause"]), group)
                if known is not group:
                    # Pages go back in time.
                    known |= {"first": group["first"], **{name: known[name] + group[name] for name in ("open", "redriven")}}
    return list(groups.values())


async def _pages(client: IngressClient, query: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
    before: str | None = ""
    while before is not None:
        asked = {name: value for name, value in (query | {"before": before}).items() if value}
        status, page = await client.call("GET", f"/v1/dead-letters?{urlencode(asked)}")
        if status != _OK:
            raise OttlaError(f"The list cannot be read: {page.get('detail') or status}")
        yield page
        before = page["before"]


async def _shown(settings: Settings, letter: str) -> dict[str, Any]:
    async with ingress_client(settings) as client:
        return _checked(letter, *await client.call("GET", f"/v1/dead-letters/{quote(letter, safe='')}"))


async def _redrive_ids(settings: Settings, ids: Sequence[str], *, execute: bool, again: bool) -> None:
    async with ingress_client(settings) as client:
        planned = [await _redrive(client, each, dry_run=True, again=again) for each in ids]
        planned.sort(key=lambda plan: (plan["at"], plan["offset"]))
        if not execute:
            for plan in planned:
                click.echo(f"Would redrive {plan['id']} to {plan['topic']}{_as(plan)}.")
            click.echo("Nothing was done: --execute does it.")
            return
        with _progress(len(planned)) as advance:
            for plan in planned:
                done = await _redrive(client, plan["id"], dry_run=False, again=again)
                advance(1)
                click.echo(f"Redrove {done['id']} to {done['topic']}{_as(done)}. Next: `ottla conv {done['conversation']}`.")


async def _redrive(client: IngressClient, letter: str, *, dry_run: bool, again: bool) -> dict[str, Any]:
    query = urlencode({"dry_run": str(dry_run).lower(), "again": str(again).lower()})
    return _checked(letter, *await client.call("POST", f"/v1/dead-letters/{quote(letter, safe='')}/redrive?{query}"))


async def _redrive_many(settings: Settings, which: dict[str, Any], *, execute: bool) -> None:
    async with ingress_client(settings) as client:
        meant, refused = await _bulk(client, which, dry_run=True, advance=lambda _: None)
        if not meant and not refused:
            click.echo("None is open.")
            return
        if not execute:
            for (stage, cause, topic), number in sorted(Counter((each["stage"], each["cause"], each["topic"]) for each in meant).items()):
                click.echo(f"Would redrive {number} of {stage} with cause {harmless(cause)} to {topic}, oldest first.")
        else:
            with _progress(len(meant)) as advance:
                done, refused = await _bulk(client, which, dry_run=False, advance=advance)
            click.echo(f"Redrove {len(done)}, oldest first.")
    if refused:
        raise RefusedError(f"{len(refused)} cannot be redriven, the first because: {refused[0]['detail']}")
    if not execute:
        click.echo("Nothing was done: --execute does it.")


async def _bulk(
    client: IngressClient, which: dict[str, Any], *, dry_run: bool, advance: Callable[[int], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what was (or would be) redriven, and what was refused, over all pages."""
    done: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        status, page = await client.call("POST", "/v1/dead-letters/redrive", body=which | {"dry_run": dry_run, "after": after})
        if status != _OK:
            raise OttlaError(f"{len(done)} were redriven, then the ingress did not go on: {page.get('detail') or status}")
        done += page["dead_letters"]
        refused += page["refused"]
        advance(len(page["dead_letters"]))
        after = page["after"]
    return done, refused


def _checked(letter: str, status: int, answer: dict[str, Any]) -> dict[str, Any]:
    detail = answer.get("detail") or status
    if status == _NOT_FOUND:
        raise NotFoundError(f"There is no dead letter {letter}: `ottla dead-letters list` names those there are.")
    if status == _REFUSED:
        raise RefusedError(str(detail))
    if status not in {_OK, _REDRIVEN}:
        raise OttlaError(f"The ingress did not do it for {letter}: {detail}")
    return answer


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield what is to be called with how many more are done; a bar shows it on a terminal."""
    if total < _BAR_FROM or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("redriving", total=total)
        yield lambda count: bar.advance(task, count)


def _as(plan: dict[str, Any]) -> str:
    return f" as the new send {plan['resent_as']}" if plan["resent_as"] else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_MAX else line[: _SHOWN_MAX - 1] + "…"
