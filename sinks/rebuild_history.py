"""`ottla replay --rebuild history`: Cassandra again from the log, into a keyspace of its own or in place, while live traffic goes on.

It is the history sink itself over a fixed stretch of the log. Its rows carry their events' own times, so writing them again changes nothing
that is there, and rows that live traffic writes meanwhile stay.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from infra.archive.archive import Archive
from infra.closing import stop_at_signal
from infra.kafka.bounded import BoundedReader, Stretch, bounded_reader
from infra.kafka.record import Record
from infra.retries import Patience, with_retries
from infra.settings import Settings
from sinks.events_to_history import History, UndecodableError

Progress = Callable[[str, int, int], None]

_INSIDE_MAX = 2_000


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: `records` read of how many there were, of which `refused` are not what their topic holds (each has a dead letter).

    `gone` of them were deleted by retention before they were read. `is_whole` unless it was stopped before the end.
    """

    keyspace: str
    records: int
    total: int
    refused: int
    gone: int = 0
    is_whole: bool = True


def run(settings: Settings, *, keyspace: str, progress: Progress) -> Rebuilt:
    """Write all that the log has to `keyspace` (empty: the installation's own) and return what was done. Raises OttlaError."""
    return asyncio.run(rebuild(settings.model_copy(update={"keyspace": keyspace or settings.keyspace}), progress=progress))


async def rebuild(settings: Settings, *, progress: Progress, stopping: asyncio.Event | None = None) -> Rebuilt:
    """Write all records up to the ends that the topics have now to the keyspace of the settings; ends early when `stopping` is set.

    A database that is away is waited for; KafkaUnreachableError if no broker answers, MigrationError if the tables do not fit.
    """
    stopping = stopping or asyncio.Event()
    stop_at_signal(stopping)
    history = History(settings)
    refused = done = gone = 0
    try:
        await history.start()
        async with bounded_reader(settings, group="rebuild-history", older=Archive(settings)) as reader:
            stretches = await _everything(reader)
            total = sum(each.length for each in stretches)

            async def handle(records: Sequence[Record]) -> None:
                nonlocal refused
                try:
                    await with_retries(lambda: history.handle(records), patience=Patience(), what="rebuild", final=(UndecodableError,))
                except UndecodableError as error:
                    refused += len(error.records)

            def pass_over(missing: Stretch) -> None:
                nonlocal gone
                gone += missing.length

            def advanced(count: int) -> None:
                nonlocal done
                done += count
                progress(f"writing {settings.keyspace}", done, total)

            progress(f"writing {settings.keyspace}", 0, total)
            is_whole = await reader.run(
                stretches,
                handle,
                limit=_INSIDE_MAX,
                batch_max=history.batch_max,
                advanced=advanced,
                stopping=stopping,
                gone=pass_over,
            )
        return Rebuilt(
            keyspace=settings.keyspace,
            records=total - gone if is_whole else done,
            total=total,
            refused=refused,
            gone=gone,
            is_whole=is_whole,
        )
    finally:
        await history.stop()


async def _everything(reader: BoundedReader) -> list[Stretch]:
    """Return what the log has now of the topics that history reads."""
    found: list[Stretch] = []
    for topic in History.topics:
        begins, ends = await reader.beginnings(topic.name), await reader.ends(topic.name)
        found += [Stretch(topic=topic.name, partition=number, start=begins[number], end=end) for number, end in sorted(ends.items())]
    return found
