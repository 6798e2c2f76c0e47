"""`ottla lag`: how far each consumer group is behind, in messages and in seconds, and how it is doing."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import click

from infra.cli.kafka_sentences import kafka_sentences
from infra.cli.output import output_option, table_lines
from infra.errors import OttlaError
from infra.ingress_client import IngressAwayError, IngressClient, ingress_client
from infra.kafka.address import with_kafka
from infra.lag.watcher import LagWatcher
from infra.lag.wording import PARTITION_TITLES, TITLES, partition_cells, topic_cells
from infra.settings import Settings, load_settings

_OK = 200
_EVERY_S = 2.0
_RATE_S = 1.0

Rows = list[dict[str, Any]]
Read = Callable[[], Awaitable[Rows]]


@click.command("lag")
@click.option("-w", "--watch", is_flag=True, help="go on showing it every 2 seconds, until Ctrl-C")
@click.option("-p", "--partitions", is_flag=True, help="each partition, with its offsets and who has it")
@output_option
def command(*, watch: bool, partitions: bool, output: str) -> None:
    """Show how far each group is behind in each topic, and its state by Burrow's rules: OK, WARN, STOP, STALL or REWIND.

    `oldest` is how long the oldest unprocessed message has waited, `deleted in` when retention may take it. States are judged over the
    last minute: the ingress has watched it; where none answers, this command looks itself.
    """
    asyncio.run(_show(load_settings(), watch=watch, partitions=partitions, as_json=output == "json"))


async def _show(settings: Settings, *, watch: bool, partitions: bool, as_json: bool) -> None:
    async with _reading(settings, partitions=partitions) as read:
        if not watch:
            click.echo("\n".join(_lines(await read(), partitions=partitions, as_json=as_json)))
        else:
            await _watch(read, partitions=partitions, as_json=as_json)


@asynccontextmanager
async def _reading(settings: Settings, *, partitions: bool) -> AsyncIterator[Read]:
    """Yield what reads the figures: from the ingress, or where none answers from Kafka itself."""
    async with ingress_client(settings) as client:
        try:
            await _ask(client, partitions=partitions)
        except IngressAwayError:
            pass
        else:
            yield lambda: _ask(client, partitions=partitions)
            return
    settings = with_kafka(settings)
    watcher = LagWatcher(settings)

    async def look() -> None:
        with kafka_sentences(settings):
            await watcher.look()

    try:
        await look()
        click.echo("No ingress answers, so this is seen from here: states need a minute (`--watch`).", err=True)
        # A rate needs two looks.
        await asyncio.sleep(_RATE_S)

        async def read() -> Rows:
            await look()
            return watcher.rows_seen(partitions=partitions)

        yield read
    finally:
        await watcher.close()


async def _ask(client: IngressClient, *, partitions: bool) -> Rows:
    status, answer = await client.call("GET", "/v1/groups" + ("?partitions=true" if partitions else ""))
    if status != _OK:
        raise OttlaError(f"The lag is not known: {answer.get('detail') or status}")
    rows: Rows = answer["groups"]
    return rows


def _lines(rows: Rows, *, partitions: bool, as_json: bool) -> list[str]:
    if as_json:
        return [json.dumps(rows, ensure_ascii=False)]
    if not rows:
        return ["No topic of this installation exists: `ottla topics create` makes them."]
    if partitions:
        return table_lines(partition_cells(rows), titles=PARTITION_TITLES)
    return table_lines(topic_cells(rows), titles=TITLES)


async def _watch(read: Read, *, partitions: bool, as_json: bool) -> None:
    """Show the figures again and again: in place on a terminal, else one below the other; go on when what is asked is away."""
    from rich.live import Live
    from rich.text import Text

    in_place = sys.stdout.isatty() and not as_json
    live = Live(auto_refresh=False) if in_place else None
    with live or nullcontext():
        while True:
            try:
                lines = _lines(await read(), partitions=partitions, as_json=as_json)
            except OttlaError as error:
                lines = [] if as_json else [str(error)]
                if as_json:
                    click.echo(str(error), err=True)
            if live is not None:
                shown = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
                shown.highlight_regex(r"\b(STOP|STALL|REWIND)\b", "bold red")
                shown.highlight_regex(r"\bWARN\b", "bold yellow")
                live.update(shown, refresh=True)
            elif lines:
                click.echo("\n".join(lines))
            await asyncio.sleep(_EVERY_S)
