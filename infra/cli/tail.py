"""`ottla tail`: the records of topics, from any place in them, decoded, and live."""

import asyncio
import difflib
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import click

from infra.clock import SystemClock
from infra.decoded import SECRET_TOPICS, as_json, decoded, readable
from infra.errors import NotFoundError, RefusedError
from infra.kafka.address import with_kafka
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.browser import Place, browser
from infra.kafka.record import Record
from infra.kafka.selection import LAST_MAX, Selection, Start, read_start
from infra.record_lines import record_line
from infra.settings import Settings, load_settings
from infra.terminal import harmless
from schemas.topics import OUTBOUND, TOPICS, Topic

_LAST_DEFAULT = 10
_AGAIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to show: from `start` on at most `count` records (None: no limit), and then what comes, if it is to `follow`."""

    start: Start
    count: int | None
    follow: bool


@click.command("tail")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@click.option("--from", "begin", metavar="PLACE", default="", help="beginning, end, -10 (last ten), 1234 (offset), 15m (ago), time (UTC)")
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="NUMBER", help="only this one")
@click.option("-k", "--key", default="", metavar="CONVERSATION", help="only this conversation, or all of this phone number or user id")
@click.option("-n", "count", type=click.IntRange(1, LAST_MAX), metavar="COUNT", help="so many, then end; the last ones without --from")
@click.option("-f", "--follow/--no-follow", default=None, help="go on with what comes until Ctrl-C  [default: unless -n is given]")
@click.option("--canaries", is_flag=True, help="also the canaries, which go the whole way once a minute and mean nothing")
@click.option("-o", "--output", type=click.Choice(["text", "json", "raw"]), default="text", show_default=True, help="raw: values as bytes")
def command(
    *,
    names: tuple[str, ...],
    begin: str,
    count: int | None,
    follow: bool | None,
    output: str,
    partition: int | None,
    key: str,
    canaries: bool,
) -> None:
    """Show the records of each TOPIC (`outbound` stands for all four) in the order of their time.

    Without --from it begins with the last ten. Nothing is committed: whoever reads these topics does not notice.
    """
    settings = load_settings()
    topics = topics_named(names, prefix=settings.topic_prefix)
    secret = [topic.name for topic in topics if topic.name in SECRET_TOPICS]
    if output == "raw" and secret:
        raise RefusedError(f"The bytes of {secret[0]} hold secrets: use -o json, which masks them.")
    selection = Selection(topics=topics, partition=partition, key=key, canaries=canaries)
    plan = planned(begin, count, follow=follow, now_ms=SystemClock().now_ms())
    # What the client library says of a broker that is away, one of our sentences says.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.run(_show(with_kafka(settings), selection, plan, _formatter(output)))


def topics_named(names: Sequence[str], *, prefix: str = "") -> tuple[Topic, ...]:
    """Return the topics that are meant, with the installation's prefix or without, each once; NotFoundError if one is none of ours."""
    known = {topic.name: (topic,) for topic in TOPICS} | {"outbound": tuple(OUTBOUND.values())}
    known |= {topic.named(prefix): (topic,) for topic in TOPICS}
    found: dict[str, Topic] = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else "`ottla topics list` names all."
            raise NotFoundError(f"There is no topic {name!r}: {hint}")
        found |= {topic.name: topic for topic in known[name]}
    return tuple(found.values())


def planned(begin: str, count: int | None, *, follow: bool | None, now_ms: int) -> Plan:
    """Return what the options mean; UsageError if `begin` is no place.

    As `tail` does: without a place `count` is how many of the last ones; with one it is how many from there on. Who wants to see a number
    of records from the end on has to wait for them.
    """
    start = read_start(begin, now_ms=now_ms) if begin else Start(kind="last", number=count or _LAST_DEFAULT)
    if follow is None:
        follow = count is None or start.kind == "end"
    return Plan(start=start, count=count if begin else None, follow=follow)


async def _show(settings: Settings, selection: Selection, plan: Plan, shown: Callable[[Record], bytes | str]) -> None:
    left = plan.count
    async with aclosing(_records(settings, selection, plan)) as records:
        async for record in records:
            line = shown(record)
            if isinstance(line, bytes):
                sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()
            else:
                click.echo(line)
            left = left - 1 if left is not None else None
            if left == 0:
                return


async def _records(settings: Settings, selection: Selection, plan: Plan) -> AsyncGenerator[Record, None]:
    """Yield the records; a broker that goes away while they are followed is waited for, and nothing is missed or seen twice."""
    places: dict[Place, int] = {}
    told = False
    while True:
        try:
            async with browser(settings, selection) as reader:
                places = places or await reader.places(plan.start)
                told = False
                reading = reader.follow(places) if plan.follow else reader.read(places)
                async with aclosing(reading) as records:
                    async for record in records:
                        yield record
                return
        except KafkaUnreachableError as error:
            if not (plan.follow and places):
                raise
            if not told:
                click.echo(f"{error} Waiting for it.", err=True)
            told = True
            await asyncio.sleep(_AGAIN_S)


def _formatter(output: str) -> Callable[[Record], bytes | str]:
    if output == "json":
        # In ASCII, so that nothing in it is a control to a terminal.
        return lambda record: json.dumps(as_json(decoded(record)))
    if output == "raw":
        return _raw_on_terminal if sys.stdout.isatty() else lambda record: record.value
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return lambda record: record_line(decoded(record), colour=colour)


def _raw_on_terminal(record: Record) -> str:
    return harmless(readable(record.value))
