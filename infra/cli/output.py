"""How lists are shown: aligned columns for people, JSON for programs."""

import json
from collections.abc import Callable, Sequence
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
