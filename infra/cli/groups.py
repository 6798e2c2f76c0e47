"""`ottla groups`: who is in each consumer group, and setting where a group goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from infra.cli.kafka_sentences import kafka_sentences
from infra.cli.output import output_option, show
from infra.clock import SystemClock
from infra.errors import RefusedError, UsageError
from infra.groups.operator import Operator, Wanted, find_group, memberships, topics_of
from infra.groups.plan import Change
from infra.groups.positions import Position, parse_duration, parse_file, parse_time, parse_topics
from infra.kafka.address import with_kafka
from infra.kafka.questions import Membership, Questions
from infra.lag.reader import LagReader
from infra.settings import Settings, load_settings
from schemas.groups import GROUPS, Group

_TIMEOUT_S = 10.0
_FILE_BYTES_MAX = 1 << 20
_LIST_TITLES = {"group": "group", "run by": "run by", "state": "state", "members": "members", "lag_messages": "lag", "topics": "reads"}
_TITLES = {"topic": "topic", "partition": "partition", "old": "old", "new": "new", "again": "handled again", "skipped": "skipped"}


@click.group("groups")
def command() -> None:
    """Consumer groups: list them, set where one goes on."""


@command.command("list")
@output_option
def list_(output: str) -> None:
    """List each group: who is in it, what it reads, and how many messages stand before it (`ottla lag` says more)."""
    settings = with_kafka(load_settings())
    with kafka_sentences(settings):
        members, lags = asyncio.run(_listed(settings))
    rows = [_row(group, settings, members[group.name], lags[group.name]) for group in GROUPS.values()]
    if output == "table":
        rows = [
            row | {"members": len(row["members"]), "topics": ", ".join(row["topics"]), "run by": f"ottla run {row['role']}"} for row in rows
        ]
    show(output, rows, titles=_LIST_TITLES)


@command.command("reset")
@click.argument("name", metavar="GROUP")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC[:N,N]", help="a topic, or some of its partitions; may be given again")
@click.option("--all-topics", is_flag=True, help="every topic that the group reads")
@click.option("--to-earliest", is_flag=True, help="go on at the first record there is")
@click.option("--to-latest", is_flag=True, help="go on behind the last record")
@click.option("--to-current", is_flag=True, help="stay where it is (and commit that)")
@click.option("--to-datetime", metavar="TIME", help="go on at the first record of that time, as 2026-11-21T09:30:00 (UTC)")
@click.option("--by-duration", metavar="DURATION", help="go on at the first record of so long ago, as PT90M or P2D")
@click.option("--shift-by", type=int, metavar="N", help="go on N records later, or earlier where N is negative")
@click.option("--to-offset", type=click.IntRange(min=0), metavar="OFFSET", help="go on at this offset")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="topic,partition,offset in each line")
@click.option("--execute", is_flag=True, help="do it; without this it is only shown")
@output_option
def reset(*, name: str, topics: tuple[str, ...], all_topics: bool, execute: bool, output: str, **words: Any) -> None:
    """Set where GROUP (streams, sender, history or dead-letters) goes on; without --execute only show what would change.

    Refused while the group has members, and where it would go back further than ids are remembered (8 days). What is handled again is
    recognised, so nothing is answered or sent twice. What is skipped is not handled by anybody.
    """
    settings = with_kafka(load_settings())
    group = find_group(name, settings)
    position = _position(words, now_ms=SystemClock().now_ms(), prefix=settings.topic_prefix)
    if position.to == "offsets" and (topics or all_topics):
        raise UsageError("The file names the partitions: leave --topic and --all-topics out.")
    if position.to != "offsets" and bool(topics) == all_topics:
        raise UsageError("Say which topics: --topic TOPIC, as often as needed, or --all-topics.")
    wanted: Wanted
    if position.to == "offsets":
        wanted = {topic: frozenset(number for name, number in position.offsets if name == topic) for topic, _ in position.offsets}
    else:
        wanted = parse_topics(topics) if topics else {topic.name: None for topic in group.topics}
    with kafka_sentences(settings):
        asyncio.run(_reset(settings, group, position, topics_of(group, wanted, settings), execute=execute, output=output))


async def _listed(settings: Settings) -> tuple[dict[str, Membership], dict[str, int]]:
    questions, reader = Questions(settings, timeout_s=_TIMEOUT_S), LagReader(settings, timeout_s=_TIMEOUT_S)
    try:
        members, seen = await memberships(settings, questions), await reader.read()
    finally:
        await questions.close()
        await reader.close()
    return members, {name: sum(each.lag for source, each in seen.items() if source.group == name) for name in GROUPS}


def _row(group: Group, settings: Settings, membership: Membership, lag: int) -> dict[str, Any]:
    return {
        "group": group.named(settings.topic_prefix),
        "role": group.role,
        "state": membership.state,
        "members": [{"client": member.client, "partitions": len(member.places)} for member in membership.members],
        "lag_messages": lag,
        "topics": [topic.name for topic in group.topics],
    }


def _position(words: dict[str, Any], *, now_ms: int, prefix: str) -> Position:
    """Return what the one option that is given says; UsageError unless it is exactly one."""
    given = {word: value for word, value in words.items() if value is not None and value is not False}
    if len(given) != 1:
        raise UsageError(f"Give exactly one of {', '.join('--' + word.replace('_', '-') for word in words)}.")
    ((word, value),) = given.items()
    match word:
        case "to_datetime":
            return Position(to="time", amount=parse_time(value))
        case "by_duration":
            return Position(to="time", amount=now_ms - parse_duration(value))
        case "shift_by":
            return Position(to="shift", amount=value)
        case "to_offset":
            return Position(to="offset", amount=value)
        case "from_file":
            offsets = parse_file(_text_of(value))
            return Position(to="offsets", offsets={(topic.removeprefix(prefix), number): at for (topic, number), at in offsets.items()})
        case "to_earliest":
            return Position(to="earliest")
        case "to_latest":
            return Position(to="latest")
        case _:
            return Position(to="current")


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
        if len(raw) > _FILE_BYTES_MAX:
            raise UsageError(f"{path} is over 1 MiB: it should hold topic,partition,offset in each line.")
        return raw.decode()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path} cannot be read as text: it should hold topic,partition,offset in each line.") from None


async def _reset(settings: Settings, group: Group, position: Position, topics: Any, *, execute: bool, output: str) -> None:
    questions = Questions(settings, timeout_s=_TIMEOUT_S)
    operator = Operator(settings, questions, group, clock=SystemClock())
    try:
        changes = await operator.plan(position, topics)
        refused = None
        try:
            await operator.refuse_unsafe(changes)
            if execute:
                await operator.execute(changes)
        except RefusedError as error:
            refused = error
        _print(changes, output=output)
        if refused is not None:
            raise refused
        if output == "table":
            click.echo(_outcome(group.named(settings.topic_prefix), changes, execute=execute))
    finally:
        await questions.close()


def _print(changes: Sequence[Change], *, output: str) -> None:
    rows = [
        {"topic": each.topic, "partition": each.partition, "old": each.old, "new": each.new, "again": each.again, "skipped": each.skipped}
        for each in changes
    ]
    if output == "table":
        rows = [row | {"old": "-" if row["old"] is None else row["old"]} for row in rows]
    show(output, rows, titles=_TITLES)


def _outcome(name: str, changes: Sequence[Change], *, execute: bool) -> str:
    again, skipped = sum(each.again for each in changes), sum(each.skipped for each in changes)
    if not execute:
        return f"{name} would handle {again} again and skip {skipped}; nothing was changed: add --execute to do it."
    return f"{name} goes on from there: {again} are handled again, {skipped} are skipped."
