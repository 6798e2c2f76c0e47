"""Scenario: what it costs to remember eight days of ids: bytes, memory, and the time until a streams worker is ready again."""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.bench.disk import bytes_of
from infra.bench.figures import Figure, Result, ratio
from infra.bench.filled import Filled
from infra.bench.installation import Installation
from infra.errors import OttlaError
from schemas.topics import CONVERSATIONS_CHANGELOG

_READY_S = 3_600.0
_STREAMS = "streams"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of streams: seconds until it was ready, changelog records it read for that, resident memory then, bytes on its disk."""

    ready_s: float
    records: int
    memory_mb: float
    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What was measured: starts with an empty table, with a full one whose disk is lost, and with its disk; what the table has."""

    empty: Start
    without_disk: Start
    with_disk: Start
    filled: Filled
    log_bytes: int | None


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Fill the changelog while streams are down, then start them without their disk, and with it."""
    plan = installation.plan
    conversations = max(1, plan.ids // plan.ids_each)
    total = 3 * (conversations * plan.ids_each + plan.busy_ids)
    await installation.kill(_STREAMS)
    empty = await _start(installation)
    await installation.kill(_STREAMS)
    filled = Filled()
    async for filled in _filled(installation, conversations):
        progress(filled.ids + filled.sealed_ids, total)
    progress(total // 3, total)
    shutil.rmtree(_disk(installation))
    without_disk = await _start(installation)
    if without_disk.records != filled.records:
        raise OttlaError(f"Streams were ready with {without_disk.records} of {filled.records} rows.")
    progress(2 * total // 3, total)
    await installation.kill(_STREAMS)
    with_disk = await _start(installation)
    progress(total, total)
    starts = Starts(
        empty=empty,
        without_disk=without_disk,
        with_disk=with_disk,
        filled=filled,
        log_bytes=installation.log_bytes(CONVERSATIONS_CHANGELOG.name),
    )
    about = (
        f"{filled.ids:,} ids in {filled.conversations:,} conversations with up to 20 turns of real texts, and {plan.busy_ids:,} in one "
        "more, written to the changelog as compaction leaves it (each row once). One streams worker has all partitions; every start "
        "follows kill -9. The changelog is in this machine's page cache: a disk that is asked for all of it may be slower."
    )
    return Result(name="ids", about=about, figures=figures(starts))


async def _filled(installation: Installation, conversations: int) -> AsyncIterator[Filled]:
    """Have the rows written by the streams' own code, and yield how far that is."""
    plan = installation.plan
    log = installation.settings.home / "filled-table.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "streams.filled_table",
            *(str(number) for number in (conversations, plan.ids_each, plan.busy_ids)),
            env=installation.environment(),
            cwd=log.parent,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    try:
        while process.stdout is not None and (line := await process.stdout.readline()):
            yield msgspec.json.decode(line, type=Filled)
        if await process.wait():
            raise OttlaError(f"The table was not filled: {log} says why.")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _start(installation: Installation) -> Start:
    """Start streams, which are down, and wait until they are ready."""
    child = installation.children[f"{_STREAMS}-1"]
    begun = time.perf_counter()
    installation.start_again(_STREAMS)
    await child.ready(patience_s=_READY_S)
    return Start(
        ready_s=time.perf_counter() - begun,
        records=(await child.figures()).total("ottla_table_restored_records_total"),
        memory_mb=installation.meter.memory_mb()[_STREAMS],
        disk_bytes=bytes_of(_disk(installation).rglob("*")),
    )


def _disk(installation: Installation) -> Path:
    return installation.settings.home / "streams" / f"{_STREAMS}-1"


def figures(starts: Starts) -> list[Figure]:
    """Return what the starts and the rows come to."""
    filled, empty, lost, kept = starts.filled, starts.empty, starts.without_disk, starts.with_disk
    found = [
        Figure(name="ready, empty table", value=empty.ready_s, unit="s", how="from the process's start until /readyz says 200"),
        Figure(name="ready, without its disk", value=lost.ready_s, unit="s", how=f"as before; all {lost.records:,} rows read and written"),
        Figure(name="ready, with its disk", value=kept.ready_s, unit="s", how=f"as before; {kept.records:,} rows read again"),
        Figure(
            name="rows restored",
            value=ratio(lost.records, lost.ready_s - empty.ready_s),
            unit="rows/s",
            how="rows over the time without its disk, less that of the empty table",
        ),
        *_rows(filled),
    ]
    if starts.log_bytes is not None:
        disk = ratio(starts.log_bytes, filled.conversations)
        found.append(Figure(name="broker's disk, each conversation", value=disk, unit="B", how="segments of the changelog, one replica"))
    disk, each_id = ratio(kept.disk_bytes, filled.conversations), ratio(kept.disk_bytes, filled.ids + filled.sealed_ids)
    return [
        *found,
        Figure(name="streams' disk, each conversation", value=disk, unit="B", how="files of the local store after the last start"),
        Figure(name="streams' disk, each id", value=each_id, unit="B", how="as before, over all ids"),
        Figure(name="memory, empty table", value=empty.memory_mb, unit="MB", how="resident memory of streams when ready"),
        Figure(name="memory, restored", value=lost.memory_mb, unit="MB", how="as before, without its disk"),
        Figure(name="memory, with its disk", value=kept.memory_mb, unit="MB", how="as before"),
    ]


def _rows(filled: Filled) -> list[Figure]:
    """Return what the rows have in bytes, those of the busy conversation apart."""

    def each(name: str, count: int, of: int, how: str) -> Figure:
        return Figure(name=name, value=ratio(count, of), unit="B", how=how)

    records = "keys and values of the changelog's records"
    return [
        each("changelog, each conversation", filled.row_bytes, filled.conversations, f"{records}, all but the busy one"),
        each("of which turns", filled.turn_bytes, filled.conversations, "as before: texts of the demo's users"),
        each("changelog, each id", filled.row_bytes, filled.ids, "as before, all of the rows over their ids"),
        each("of which the id", filled.id_bytes, filled.ids, "what the ids make longer in their rows"),
        each("changelog, each sealed id", filled.sealed_bytes, filled.sealed_ids, f"{records} of sealed rows"),
        Figure(
            name="busy conversation's row",
            value=filled.busy_row_bytes,
            unit="B",
            how=f"what each of its messages writes again, with {filled.sealed_ids:,} ids sealed",
        ),
        Figure(
            name="busy conversation, a new id",
            value=1e6 * filled.busy_look_up_s,
            unit="µs",
            how="processor time to tell that it never came: all sealed rows are looked at; reads of the store left out",
        ),
    ]
