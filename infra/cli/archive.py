"""`ottla archive`: what the log is about to forget, kept in files that replays read as if the log still had it."""

import asyncio
from typing import Any

import click

from infra.archive.verify import Checked, summarise, topics_of, verify
from infra.archive.writer import ARCHIVED, RECORDS_PER_FILE, Archived, Part, plan_archive, with_gone, write_archive
from infra.cli.output import output_option, progress_bar, show
from infra.clock import SystemClock
from infra.closing import stop_at_signal
from infra.errors import FAILED, NotFoundError, UsageError
from infra.kafka.address import with_kafka
from infra.kafka.admin import check_kafka
from infra.kafka.bounded import bounded_reader
from infra.settings import Settings, load_settings
from infra.times import read_time, shown_time
from schemas.topics import TOPICS, Topic

_ANSWER_S = 5.0
_INTERRUPTED = 130
_TITLES = {"topic": "topic", "partition": "partition", "from": "from", "to": "to", "records": "records", "lost": "lost"}
_LIST_TITLES = {
    "topic": "topic",
    "partition": "partition",
    "offsets": "offsets",
    "records": "records",
    "files": "files",
    "bytes": "bytes",
    "since": "since",
    "until": "until",
    "missing": "missing",
}


@click.group("archive", invoke_without_command=True)
@click.option("--topic", "names", multiple=True, metavar="TOPIC", help="only this one; may be given again [default: all that replay reads]")
@click.option("--before", default="now", show_default=True, metavar="TIME", help="what was stored before then: -7d, 2026-11-01")
@click.option("--records-per-file", default=RECORDS_PER_FILE, show_default=True, type=click.IntRange(1), help="a file has no more")
@click.option("--dry-run", is_flag=True, help="only show what would be archived")
@output_option
@click.pass_context
def command(context: click.Context, *, names: tuple[str, ...], before: str, records_per_file: int, dry_run: bool, output: str) -> int:
    """Write what the log has and the archive does not to files (JSON lines, zstd) in OTTLA_ARCHIVE. Run it daily, below the retention.

    Safe to repeat and to kill: what is archived already is left as it is.
    """
    if context.invoked_subcommand is not None:
        return 0
    settings = with_kafka(load_settings())
    topics = [_topic(name, settings) for name in dict.fromkeys(names)] or list(ARCHIVED)
    before_ms = None if before == "now" else read_time(before, now_ms=SystemClock().now_ms())
    with progress_bar() as progress:
        parts, done = asyncio.run(_archive(settings, topics, before_ms, records_per_file, None if dry_run else progress))
    lost = sum(part.lost for part in parts)
    if output == "json" or done is None:
        show(output, [_part_row(part) for part in parts if output == "json" or part.stretch.length or part.lost], titles=_TITLES)
    if output == "table":
        click.echo(_said(settings, parts, done))
    if lost:
        click.echo(f"{lost:,} records were deleted by retention before they were archived: archive more often.", err=True)
        return FAILED
    return _INTERRUPTED if done is not None and not done.is_whole else 0


@command.command("list")
@output_option
def list_(output: str) -> None:
    """List what is archived."""
    settings = load_settings()
    show(output, [_checked_row(each) for each in _some(settings, list(summarise(settings.archive_folder)))], titles=_LIST_TITLES)


@command.command("verify")
@output_option
def verify_(output: str) -> int:
    """Read every file to its end and compare it with its manifest; needs no Kafka. 1 if anything is wrong."""
    settings = load_settings()
    with progress_bar() as progress:
        checked = _some(settings, list(verify(settings.archive_folder, progress=progress)))
    wrong = [sentence for each in checked for sentence in each.wrong]
    if output == "json":
        show(output, [_checked_row(each) | {"wrong": each.wrong} for each in checked], titles={})
    else:
        records, files = sum(each.records for each in checked), sum(each.files for each in checked)
        click.echo(f"{files:,} files with {records:,} records: {'as they were written' if not wrong else f'wrong in {len(wrong)} places'}.")
    for sentence in wrong if output == "table" else ():
        click.echo(sentence, err=True)
    return FAILED if wrong else 0


async def _archive(
    settings: Settings, topics: list[Topic], before_ms: int | None, records_per_file: int, progress: Any
) -> tuple[list[Part], Archived | None]:
    stopping = asyncio.Event()
    stop_at_signal(stopping)
    await check_kafka(settings, timeout_s=_ANSWER_S)
    async with bounded_reader(settings, group="archive") as reader:
        parts = await plan_archive(reader, settings, topics, before_ms=before_ms)
        if progress is None:
            return parts, None
        done = await write_archive(reader, settings, parts, progress=progress, stopping=stopping, records_per_file=records_per_file)
        return with_gone(parts, done.gone), done


def _topic(name: str, settings: Settings) -> Topic:
    found = next((topic for topic in TOPICS if name in (topic.name, topic.named(settings.topic_prefix))), None)
    if found is None:
        raise NotFoundError(f"There is no topic {name!r}: `ottla topics list` names them.")
    if found.retention_ms is None:
        raise UsageError(f"Topic {found.name} keeps the newest record of each key for ever: there is nothing to archive.")
    return found


def _said(settings: Settings, parts: list[Part], done: Archived | None) -> str:
    if done is None:
        records = sum(part.stretch.length for part in parts)
        return f"{records:,} records would be archived in {settings.archive_folder}; nothing was written."
    words = f"Archived {done.records:,} records in {done.files:,} files of {done.size:,} bytes in {settings.archive_folder}."
    return words if done.is_whole else f"{words} Stopped before the end: the same command goes on."


def _part_row(part: Part) -> dict[str, Any]:
    return {
        "topic": part.topic,
        "partition": part.partition,
        "from": part.start,
        "to": part.end,
        "records": part.stretch.length,
        "lost": part.lost,
    }


def _some(settings: Settings, checked: list[Checked]) -> list[Checked]:
    if not checked and not topics_of(settings.archive_folder):
        raise NotFoundError(f"There is no archive in {settings.archive_folder}: `ottla archive` makes it, OTTLA_ARCHIVE names another.")
    return checked


def _checked_row(each: Checked) -> dict[str, Any]:
    return {
        "topic": each.topic,
        "partition": each.partition,
        "offsets": f"{each.first}-{each.end - 1}" if each.files else "-",
        "records": each.records,
        "files": each.files,
        "bytes": each.size,
        "since": shown_time(each.first_ms) if each.files else "-",
        "until": shown_time(each.last_ms) if each.files else "-",
        "missing": each.missing,
    }
