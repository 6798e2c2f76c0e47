"""tests.torture.load and final: a load without faults, played on real servers, leaves a history that the checker calls clean."""

import random
from collections import Counter
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.installation import Installation
from tests.torture.checker import check
from tests.torture.final import write_final, write_readings
from tests.torture.history import Begun, Entry, HistoryWriter, Posted, Reading, Stored, read_history
from tests.torture.load import Load, Play


@pytest.mark.servers
@pytest.mark.timeout(240)
async def test_a_load_without_faults_is_clean(settings: Settings, tmp_path: Path) -> None:
    """Noise, repeats, poison, bodies of several conversations and a large one: all is answered or in the books, and the checker says so."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    load = Load(events=500, conversations=50, seed=seed, large_body=100, poison=0.05, together=0.1, inflight_max=100)
    path = tmp_path / "history.jsonl"
    async with Installation(settings) as installation:
        with HistoryWriter(path) as writer, Play(load, outside=installation, writer=writer) as play:
            writer.write(Begun(at=0, seed=seed, command="test"))
            await play.run()
            await write_readings(installation, play.conversations[:5], writer, final=False)
            assert await play.rest(timeout_s=90)
            assert await write_final(installation, play.conversations, writer, caught_up_s=60)
    report = check(read_history(path))
    assert report.clean, "\n".join(report.lines())
    entries = list(read_history(path))
    _is_what_was_asked_for(entries, load)
    books = report.books
    assert books.accepted == play.stored >= 500
    assert min(books.answered, books.suppressed, books.dead_lettered) > 0
    assert (books.parked, play.unanswered, play.in_flight) == (0, 0, 0)


def _is_what_was_asked_for(entries: list[Entry], load: Load) -> None:
    """Check that the history has what the checker is to judge: every kind of thing that the load promises."""
    posted = [entry for entry in entries if isinstance(entry, Posted)]
    first = [entry for entry in posted if not entry.repeat]
    assert len({entry.message for entry in first}) == len(first)
    assert {entry.message for entry in posted if entry.repeat} < {entry.message for entry in first}
    sizes = Counter(entry.body for entry in first)
    assert max(sizes.values()) == load.large_body
    large = [entry for entry in first if sizes[entry.body] == load.large_body]
    assert sum(entry.answer == "dead-letter" for entry in large) == 1
    assert len({entry.conversation for entry in large}) > 2
    stored = {entry.body for entry in entries if isinstance(entry, Stored)}
    assert {entry.body for entry in posted} < stored  # statuses of unknown messages are bodies, too
    assert any(isinstance(entry, Reading) and not entry.final for entry in entries)
