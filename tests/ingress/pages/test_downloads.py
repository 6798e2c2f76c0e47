"""Lists as CSV files: whole, bounded, and harmless in a spreadsheet."""

import csv
import io

import pytest
from starlette.responses import StreamingResponse

from infra.cassandra.dead_letters import Entry, dead_letter_rows
from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra
from ingress.pages import downloads
from ingress.pages.downloads import Part, csv_lines, download
from sinks.history_rows import history_rows
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk
from tests.ingress.pages.site import ADMIN_KEY, TENANT_KEY, browser, site

__all__ = ["cassandra", "history_settings", "tenant"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("hello", "hello"),
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\\t=1"),
        (" -1", "' -1"),
        ("+16505550001", "'+16505550001"),
        ("a\r\nb\u202ec", "a\nb\\u202ec"),
        ('say "hi", you', 'say "hi", you'),
        (7, "7"),
        (-7, "-7"),
        (None, ""),
        ("\ud800", "\\ud800"),
    ],
)
def test_cells(value: str | int | None, shown: str) -> None:
    """What a stranger wrote is a text to a spreadsheet, and shown as what it is; our own numbers stay numbers."""
    ((found, after),) = csv.reader(io.StringIO(csv_lines([[value, "x"]]).decode(), newline=""))
    assert (found, after) == (shown, "x")


async def test_a_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page to its end or to the last row it may have; then it says that there are more."""
    monkeypatch.setattr(downloads, "ROWS_MAX", 5)

    async def read(cursor: str) -> Part:
        begin = int(cursor)
        return [[number] for number in range(begin, begin + 2)], str(begin + 2) if begin + 2 < last else None

    async def lines() -> list[str]:
        answer = await download("x", ["n"], ([[0], [1]], "2"), read)
        assert isinstance(answer, StreamingResponse)
        return b"".join([bytes(part) async for part in answer.body_iterator]).decode().splitlines()  # type: ignore[arg-type]

    last = 4
    assert await lines() == ["n", "0", "1", "2", "3"]
    last = 100
    *whole, end = await lines()
    assert whole == ["n", "0", "1", "2", "3", "4", "5"]
    assert end.strip('"').endswith("with before=6")


@pytest.mark.servers
async def test_a_thread_and_dead_letters_as_files(cassandra: Cassandra, tenant: str) -> None:
    """All of them, over several pages; to their tenant only."""
    talk = Talk(tenant=tenant)
    records = [talk.inbound(talk.wamid(str(number)), f"=text {number}", at_ms=NOON_MS + number) for number in range(60)]
    letter = Entry(
        id=f"letter-{tenant}",
        tenant=tenant,
        conversation=talk.key,
        stage="streams",
        cause="agent-failed",
        error="=HYPERLINK()",
        topic="raw",
        partition=1,
        offset=7,
        attempts=1,
        at_ms=site().state.clock.now_ms(),
        letter_partition=0,
        letter_offset=0,
        size=3,
    )
    rows = [row for record in records for row in history_rows(record)] + dead_letter_rows(letter, stack="", now_ms=letter.at_ms)
    await write_rows(cassandra, rows)
    async with browser(site(cassandra, tenant=tenant), TENANT_KEY) as client:
        thread = await client.get(f"/conversations/{talk.key}?format=csv")
        assert thread.headers["content-type"] == "text/csv; charset=utf-8"
        assert thread.headers["content-disposition"] == f'attachment; filename="{talk.key.replace(":", "-")}.csv"'
        said = list(csv.DictReader(io.StringIO(thread.text, newline="")))
        assert [each["text"] for each in said] == [f"'=text {number}" for number in range(59, -1, -1)]
        letters = await client.get("/dead-letters/all?format=csv&cause=agent-failed")
        (found,) = csv.DictReader(io.StringIO(letters.text, newline=""))
        assert (found["id"], found["error"], found["offset"], found["state"]) == (letter.id, "'=HYPERLINK()", "7", "open")
        assert (await client.get("/conversations/wa:1:none?format=csv")).status_code == 404
        assert (await client.get("/dead-letters/all?format=csv&before=x")).status_code == 422
        assert "?format=csv" in (await client.get(f"/conversations/{talk.key}")).text
    async with browser(site(cassandra, tenant=f"{tenant}-other"), TENANT_KEY) as client:
        assert (await client.get(f"/conversations/{talk.key}?format=csv")).status_code == 404
        assert letter.id not in (await client.get("/dead-letters/all?format=csv")).text
    async with browser(site(cassandra, tenant=tenant), ADMIN_KEY) as client:
        assert letter.id in (await client.get("/dead-letters/all?format=csv&stage=streams")).text
