"""How lists are shown: aligned columns for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from infra.terminal import harmless

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Give a command the option `-o table|json`, as the parameter `output`."""
    choice = click.Choice(["table", "json"])
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help="for people or programs")(command)


def show(output: str, rows: Sequence[dict[str, Any]], *, titles: dict[str, str]) -> None:
    """Print the rows: all of them as a JSON array, or the keys of `titles` as columns, headed if any has a title."""
    if output == "json":
        click.echo(json.dumps(list(rows), ensure_ascii=False))
        return
    for line in table_lines(rows, titles=titles):
        click.echo(line)


def table_lines(rows: Sequence[dict[str, Any]], *, titles: dict[str, str]) -> list[str]:
    """Return the rows as lines of aligned columns, the keys of `titles`, headed if any has a title."""
    lines = [list(titles.values()), *([harmless(str(row[key])) for key in titles] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = lines if any(titles.values()) else lines[1:]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what is to be told what is being done, how much of it is done and how much there is; a terminal shows it as bars."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress
