"""`ottla replay`: what was decided and answered, decided again from the log with every effect fenced, and compared."""

import asyncio
import importlib
import json
import math
import re
from pathlib import Path
from typing import Any

import click

from infra.cli.output import output_option, progress_bar, show
from infra.errors import UsageError
from infra.kafka.address import with_kafka
from infra.log import configure_logging
from infra.servers.address import resolve_servers
from infra.servers.reach import check_servers
from infra.settings import Settings, load_settings
from infra.terminal import harmless

_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
_INTERRUPTED = 130
_FASTEST = 1_000_000
_VERDICT_TITLES = {"verdict": "the table's rows are", "conversations": "conversations"}


def _number(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("it is no number.")
    return value


@click.command("replay")
@click.option(
    "--from",
    "since",
    default="",
    metavar="TIME",
    help="compare what was stored from then on: -2h, 2026-11-01, or a partition and offset of [raw]: 3/1200",
)
@click.option("--to", "until", default="now", show_default=True, metavar="TIME", help="up to then, not including it")
@click.option("--tenant", default="", help="only conversations of this tenant")
@click.option("--conversation", default="", help="only this one: its key, or the phone number or user id of the contact")
@click.option("--agent", type=click.Path(path_type=Path), help="a YAML file with one agent, as `apply` takes it, to answer instead")
@click.option(
    "--speed",
    default=0.0,
    type=click.FloatRange(min=0, max=_FASTEST),
    callback=_number,
    help="so many times as fast as then; 0, the default: without waiting",
)
@click.option("--diff", is_flag=True, help="show the answers that differ side by side")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="write the differences as a page to this file")
@click.option(
    "--rebuild", type=click.Choice(["history", "tables"]), help="instead: make Cassandra, or the streams' table, again from the log"
)
@click.option("--keyspace", default="", help="with --rebuild history: into this keyspace; without it in place")
@click.option("--execute", is_flag=True, help="with --rebuild tables: put what was made in the place of what differs")
@click.option("--resume", default="", metavar="ID", help="go on with a replay that was paused or killed, or show one again")
@output_option
def command(*, diff: bool, output: str, html: Path | None, rebuild: str | None, keyspace: str, execute: bool, **wished: Any) -> int:
    """Decide again what was decided, and compare; nothing is sent and nothing is written to any topic.

    Without --agent the answers of then are taken from the log. Ctrl-C pauses, a second one ends at once; both can be gone on with.
    """
    is_alone = not (diff or html or _asked(wished) or wished["resume"])
    if rebuild == "tables" or execute:
        return _rebuild_tables(output, execute=execute, is_alone=is_alone and rebuild == "tables" and not keyspace)
    if rebuild or keyspace:
        return _rebuild(rebuild or "", keyspace, output, is_alone=is_alone)
    if wished["resume"] and _asked(wished):
        raise UsageError(
            "--resume goes on with what was asked for then: give no --from, --to, --tenant, --conversation, --agent or --speed."
        )
    settings = with_kafka(load_settings())
    _quiet(settings)
    # By name, like every role: the command line imports none.
    entry = importlib.import_module("streams.replay.run")
    with progress_bar() as progress:
        replayed = entry.run(settings, progress=progress, **wished)
    code: int = entry.show(replayed, diff=diff, output=output, html=html)
    return code


def _rebuild(what: str, keyspace: str, output: str, *, is_alone: bool) -> int:
    if not what or not is_alone:
        raise UsageError(
            "Rebuilding is --rebuild history, with --keyspace NAME or without, and no other option: it writes all the log has."
        )
    if keyspace and not _KEYSPACE.fullmatch(keyspace):
        raise UsageError(f"{keyspace!r} is no name of a keyspace: use up to 48 small letters, digits and underscores, a letter first.")
    settings = resolve_servers(load_settings())
    _quiet(settings)
    asyncio.run(check_servers(settings))
    entry = importlib.import_module("sinks.rebuild_history")
    with progress_bar() as progress:
        rebuilt = entry.run(settings, keyspace=keyspace, progress=progress)
    counts = {name: getattr(rebuilt, name) for name in ("keyspace", "records", "total", "refused", "gone")}
    if output == "json":
        click.echo(json.dumps(counts))
    else:
        refused = f", {rebuilt.refused:,} of them are not what their topic holds" if rebuilt.refused else ""
        click.echo(f"Wrote {rebuilt.keyspace} from {rebuilt.records:,} of {rebuilt.total:,} records{refused}.")
        if rebuilt.gone:
            click.echo(f"{rebuilt.gone:,} records were deleted by retention before they were read: `ottla archive` keeps them.", err=True)
    if not rebuilt.is_whole:
        click.echo("Stopped before the end: the same command begins again, and writing a row twice changes nothing.", err=True)
        return _INTERRUPTED
    return 0


def _rebuild_tables(output: str, *, execute: bool, is_alone: bool) -> int:
    if not is_alone:
        raise UsageError("Rebuilding the table is --rebuild tables, with --execute or without, and no other option.")
    settings = with_kafka(load_settings())
    _quiet(settings)
    entry = importlib.import_module("streams.rebuild_tables")
    with progress_bar() as progress:
        rebuilt = entry.run(settings, execute=execute, progress=progress)
    if output == "json":
        fields = ("verdicts", "examples", "gone", "written", "folder")
        click.echo(json.dumps({name: getattr(rebuilt, name) for name in fields} | {"differing": rebuilt.differing}))
    elif rebuilt.is_whole:
        show(output, [{"verdict": verdict, "conversations": count} for verdict, count in rebuilt.verdicts.items()], titles=_VERDICT_TITLES)
        for line in _told(rebuilt, execute=execute):
            click.echo(line)
    if not rebuilt.is_whole:
        click.echo("Stopped before the end: nothing was written, and the same command begins again.", err=True)
        return _INTERRUPTED
    return 0


def _told(rebuilt: Any, *, execute: bool) -> list[str]:
    """Return in words what came of rebuilding the table."""
    lines = [f"{verdict}: {harmless(', '.join(keys))}" for verdict, keys in rebuilt.examples.items()]
    if rebuilt.gone:
        lines.append(
            f"Log and archive lack the beginning of [raw], or of what was decided, in partitions {', '.join(map(str, rebuilt.gone))}: "
            "rows there may know more."
        )
    if not rebuilt.differing:
        return [*lines, "The table is what the log says."]
    if not execute:
        return [*lines, f"{rebuilt.differing:,} conversations would be written; nothing was changed: add --execute to do it."]
    return [*lines, f"Wrote {rebuilt.written:,} rows; those they replaced are in {rebuilt.folder}/replaced.jsonl. Start the streams again."]


def _asked(wished: dict[str, Any]) -> bool:
    """Tell whether any option says what to replay."""
    return (
        bool(wished["since"] or wished["tenant"] or wished["conversation"] or wished["agent"] or wished["speed"])
        or wished["until"] != "now"
    )


def _quiet(settings: Settings) -> None:
    # What fails again in a replay is in its report; the log is for what keeps it from going on.
    configure_logging(settings, level="error" if settings.log_level != "debug" else "debug", role="replay")
