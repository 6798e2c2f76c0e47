"""Lists as CSV files: cells that no spreadsheet takes for a formula, a page of the list at a time, about the first ten thousand rows."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from infra.terminal import harmless

ROWS_MAX = 10_000
"""After so many rows, and the rest of their page, a file ends; its last line says where there are more."""

_FORMULA = ("=", "+", "-", "@")

Cell = str | int | None
Part = tuple[Sequence[Sequence[Cell]], str | None]
"""Rows of a list, and the cursor behind which there are more."""


def is_wanted(request: Request) -> bool:
    """Tell whether a page is asked for as a file."""
    return request.query_params.get("format") == "csv"


async def download(name: str, titles: Sequence[str], first: Part, read: Callable[[str], Awaitable[Part]]) -> Response:
    """Return a list as a file of this name; `first` is read already, so that what is wrong with it can still be answered.

    What goes wrong later ends the connection before the file does: a browser takes no such file for a whole one.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(_lines(titles, first, read), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(titles: Sequence[str], first: Part, read: Callable[[str], Awaitable[Part]]) -> AsyncIterator[bytes]:
    yield csv_lines([titles])
    (rows, cursor), count = first, 0
    while True:
        count += len(rows)
        yield csv_lines(rows)
        if cursor is None:
            return
        if count >= ROWS_MAX:
            yield csv_lines([[f"There are older ones, which are not in this file: ask for them with before={cursor}"]])
            return
        rows, cursor = await read(cursor)


def csv_lines(rows: Sequence[Sequence[Cell]]) -> bytes:
    """Return rows as lines of CSV (RFC 4180). Pure."""
    text = io.StringIO()
    csv.writer(text).writerows([[_cell(each) for each in row] for row in rows])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Cell) -> str:
    """Return a cell's text: lines stay, what hides or reverses words is written as its number, and nothing begins like a formula."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    shown = "\n".join(harmless(line) for line in value.splitlines())
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
