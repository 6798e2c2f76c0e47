"""`ottla replay`: makes or finds a replay, runs it, and shows what came of it."""

import asyncio
import json
import re
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from infra.archive.archive import Archive
from infra.closing import stop_at_signal
from infra.configuration_yaml import read_configuration_yaml
from infra.errors import NotFoundError, UsageError
from infra.kafka.admin import check_kafka
from infra.kafka.bounded import BoundedReader, bounded_reader
from infra.kafka.log_reader import log_reader
from infra.settings import Settings
from infra.terminal import harmless
from infra.times import read_time
from schemas.config_file import ConfigFileError, Configuration, read_configuration
from schemas.events.config import Agent
from schemas.topics import RAW
from streams.replay.comparison import write_comparison
from streams.replay.folder import Folder, find_folder, make_folder, new_name
from streams.replay.host import Progress, decide_again
from streams.replay.plan import Request, make_plan
from streams.replay.report import as_json, print_differences, print_summary, write_page
from streams.replay.store import Store

_ANSWER_S = 5.0
_PLACE = re.compile(r"(\d{1,6})/(\d{1,18})")

PAUSED = 130
"""The exit code of a replay that was paused: what a shell says of anything that Ctrl-C ends."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for, as it was written there."""

    since: str = ""
    until: str = "now"
    tenant: str = ""
    conversation: str = ""
    agent: Path | None = None
    speed: float = 0.0
    resume: str = ""


def run(settings: Settings, *, progress: Progress, **wished: object) -> Folder:
    """Replay what is wished for (the fields of `Wish`); return its folder. Raises OttlaError."""
    return asyncio.run(replay(settings, Wish(**wished), progress=progress))  # type: ignore[arg-type]  # click has checked them


def show(folder: Folder, *, diff: bool, output: str, html: Path | None) -> int:
    """Show what came of a replay and return the exit code; NotFoundError if there was nothing, OttlaError without the page."""
    plan, summary = folder.plan(), folder.summary()
    if summary is None:
        click.echo(f"Paused: `ottla replay --resume {plan.id}` goes on and asks no agent twice.", err=True)
        return PAUSED
    if summary.compared == 0 and (plan.tenant or plan.conversation):
        whose = f"conversation {plan.conversation}" if plan.conversation else f"tenant {plan.tenant}"
        raise NotFoundError(f"Nothing was received then of {harmless(whose)}.")
    if html is not None:
        write_page(html, folder, plan, summary)
    if output == "json":
        click.echo(json.dumps(as_json(folder, plan, summary, with_items=diff), ensure_ascii=False))
        return 0
    console = Console(highlight=False)
    print_summary(console, plan, summary)
    if diff:
        print_differences(console, folder)
    if html is not None:
        click.echo(f"The page is {html}.")
    return 0


async def replay(settings: Settings, wish: Wish, *, progress: Progress) -> Folder:
    """Run a new replay, or go on with one that was paused or killed; return its folder, without a summary if it was paused again."""
    stopping = asyncio.Event()
    stop_at_signal(stopping, lambda: click.echo("Pausing: what is under way ends first. Ctrl-C again ends it at once.", err=True))
    if wish.resume:
        folder = find_folder(settings, wish.resume)
        if folder.summary() is not None:
            return folder
        plan = folder.plan()
        await check_kafka(settings, timeout_s=_ANSWER_S)
        async with bounded_reader(settings, group=f"replay-{plan.id}", older=Archive(settings)) as reader:
            await _decide_and_compare(settings, folder, reader, progress, stopping)
        return folder
    now_ms = time.time_ns() // 1_000_000
    request = await read_request(settings, wish, now_ms=now_ms)
    name = new_name(now_ms)
    await check_kafka(settings, timeout_s=_ANSWER_S)
    async with bounded_reader(settings, group=f"replay-{name}", older=Archive(settings)) as reader:
        plan = await make_plan(reader, settings, request, name=name, now_ms=now_ms)
        folder = make_folder(settings, name)
        folder.write_plan(plan)
        await _decide_and_compare(settings, folder, reader, progress, stopping)
    return folder


async def _decide_and_compare(
    settings: Settings, folder: Folder, reader: BoundedReader, progress: Progress, stopping: asyncio.Event
) -> None:
    plan = folder.plan()
    store = Store(folder.store)
    is_done = False
    try:
        if await decide_again(settings, plan, store, reader, progress=progress, stopping=stopping):
            folder.write_summary(write_comparison(store, plan, folder.comparison))
            is_done = True
    finally:
        store.close(remove=is_done)


async def read_request(settings: Settings, wish: Wish, *, now_ms: int) -> Request:
    """Return what is to be replayed; UsageError for what cannot be, NotFoundError for a place that [raw] does not have."""
    if not wish.since:
        raise UsageError("Say from when, such as --from -2h, or --resume ID.")
    agent = read_agent(wish.agent) if wish.agent is not None else None
    since, until = read_place(wish.since), read_place(wish.until)
    if until is not None and (since is None or since[0] != until[0] or since[1] >= until[1]):
        raise UsageError(f"--to {wish.until} needs a --from before it in the same partition, such as --from {until[0]}/0.")
    from_ms = read_time(wish.since, now_ms=now_ms) if since is None else await _stored_at(settings, *since)
    to_ms = now_ms if until is not None else min(now_ms, read_time(wish.until, now_ms=now_ms))
    if since is None and from_ms >= to_ms:
        raise UsageError(f"--from {wish.since} is not before --to {wish.until}.")
    return Request(
        from_ms=from_ms,
        to_ms=to_ms,
        partition=since[0] if since is not None else None,
        first=since[1] if since is not None else None,
        last=until[1] if until is not None else None,
        tenant=wish.tenant,
        conversation=wish.conversation,
        agent=agent,
        speed=wish.speed,
    )


def read_place(text: str) -> tuple[int, int] | None:
    """Return partition and offset of a text such as 3/1200; None for what is something else."""
    found = _PLACE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


async def _stored_at(settings: Settings, partition: int, offset: int) -> int:
    await check_kafka(settings, timeout_s=_ANSWER_S)
    async with log_reader(settings, RAW) as reader:
        record = await reader.read(partition, offset) or await Archive(settings).record(RAW.name, partition, offset)
    if record is None:
        raise NotFoundError(f"There is no record {partition}/{offset} in [{RAW.name}] (any more).")
    return record.timestamp_ms


def read_agent(file: Path) -> Agent:
    """Return the one agent in a file such as `ottla apply` takes; UsageError if there is none, or more."""
    read = read_configuration_yaml(file)
    try:
        configuration = read_configuration(read.document)
    except ConfigFileError as error:
        mistakes = sorted((*read.mistakes, *error.mistakes), key=lambda mistake: read.line(mistake.path))
        raise UsageError(f"{file} line {read.line(mistakes[0].path)}: {mistakes[0].message}") from None
    if len(configuration.agents) != 1 or configuration != Configuration(agents=configuration.agents):
        raise UsageError(f"{file} must hold one agent under `agents:` and nothing else: it answers every conversation of the replay.")
    return configuration.agents[0]
