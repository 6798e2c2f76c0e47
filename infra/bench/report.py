"""The report of a run: Markdown for people, JSON for programs, plots beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from infra.bench.figures import Figure, Result
from infra.bench.plots import svg
from infra.errors import UsageError

_SMALL, _LARGE = 10, 100
MARKS = {"goal": "reaches the goal", "kept": "kept", "missed": "MISSED", "unknown": "not measured", "": ""}


def shown(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    if math.isnan(value):
        return "-"
    if value == int(value) and abs(value) < _LARGE:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < _SMALL else f"{value:.1f}" if abs(value) < _LARGE else f"{value:,.0f}"


def bounds(figure: Figure) -> str:
    """Return what a figure must be, as words; empty if nothing is asked of it."""
    if figure.must is None:
        return ""
    words = f"at {'most' if figure.at_most else 'least'} {shown(figure.must)}"
    return words if figure.goal is None else f"{words}, goal {shown(figure.goal)}"


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one row for each figure, for the terminal."""
    return [
        {
            "scenario": result.name,
            "figure": figure.name,
            "value": f"{shown(figure.value)} {figure.unit}".rstrip(),
            "must": bounds(figure),
            "verdict": MARKS[figure.verdict],
        }
        for result in results
        for figure in result.figures
    ]


def markdown(results: Sequence[Result], *, machine: Mapping[str, str]) -> str:
    """Return the report as Markdown."""
    lines = ["# What `ottla bench` measured", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    for result in results:
        lines += [
            f"## {result.name}",
            "",
            result.about,
            "",
            "| figure | value | must be | | how it was measured |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {figure.name} | {shown(figure.value)} {figure.unit} | {bounds(figure)} | {MARKS[figure.verdict]} | {figure.how} |"
            for figure in result.figures
        ]
        lines += ["", *(f"![{plot.title}]({plot.file})\n" for plot in result.plots)]
    return "\n".join(lines)


def as_json(results: Sequence[Result], *, machine: Mapping[str, str]) -> bytes:
    """Return the report as JSON; a value that is not there is null."""
    scenarios = {
        result.name: {"about": result.about, "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in result.figures]}
        for result in results
    }
    return orjson.dumps({"machine": machine, "scenarios": scenarios}, option=orjson.OPT_INDENT_2)


def write_report(folder: Path, results: Sequence[Result], *, machine: Mapping[str, str]) -> Path:
    """Write report.md, report.json and the plots; return the first. UsageError with a sentence if the folder cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for result in results:
            for plot in result.plots:
                (folder / plot.file).write_text(svg(plot), encoding="utf-8")
        (folder / "report.json").write_bytes(as_json(results, machine=machine))
        path = folder / "report.md"
        path.write_text(markdown(results, machine=machine), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The report cannot be written to {folder} ({error.strerror}): name another folder with --report.") from None
    return path
