"""What a replay shows: words of strangers are harmless everywhere, what is left out is said, every difference is there."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from infra.errors import NotFoundError, OttlaError, UsageError
from infra.settings import Settings
from schemas.events.config import Agent
from streams.replay.compare import Compared, Outcome, Verdict
from streams.replay.folder import Folder, find_folder, make_folder, new_name
from streams.replay.plan import Plan, Request, bounds_of, narrowed
from streams.replay.report import as_json, print_differences, print_summary, write_page
from streams.replay.run import Wish, read_agent, read_request
from streams.replay.summary import Counting, Summary

HOSTILE = "\x1b[2J<script>alert(1)</script>[bold]\u202e'\"&"
NOW_MS = 1_795_262_400_000
PLAN = Plan(id="r1", made_at=NOW_MS, from_ms=NOW_MS - 3_600_000, to_ms=NOW_MS, raw=[], recorded=[], agent=Agent(id="other", kind="offline"))


def item(number: int, verdict: Verdict, was: str, now: str) -> Compared:
    return Compared(
        conversation=f"wa:1:{number // 3}",
        tenant="default",
        cause=str(number),
        partition=0,
        offset=number,
        received_at=NOW_MS,
        verdict=verdict,
        question=f"question {number} {HOSTILE}",
        was=Outcome(decision="answered", step="reply", text=was, agent=HOSTILE, took_ms=20),
        now=Outcome(decision="answered", step="reply", text=now, took_ms=30, tokens_in=7, tokens_out=8),
    )


def folder_with(path: Path, items: list[Compared]) -> tuple[Folder, Summary]:
    folder, counting = Folder(path), Counting()
    for each in items:
        counting.add(each, is_asked=True)
    folder.comparison.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in items))
    return folder, counting.summary("r1", unhandled=4)


def test_the_page_is_harmless_and_whole(tmp_path: Path) -> None:
    """Hostile words stand on the page as what they are; it loads nothing, and knows light and dark."""
    items = [item(0, "same", "a", "a"), item(1, "changed", HOSTILE, "b"), item(2, "changed", "c", HOSTILE)]
    folder, summary = folder_with(tmp_path, items)
    write_page(tmp_path / "page.html", folder, PLAN, summary)
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert "question 0" not in page
    assert page.count('class="item"') == 2
    assert "prefers-color-scheme: dark" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "1 same, 2 changed, 0 missing, 0 new" in page
    with pytest.raises(OttlaError, match="cannot be written"):
        write_page(tmp_path / "none" / "page.html", folder, PLAN, summary)


def test_the_terminal_obeys_nobody(tmp_path: Path) -> None:
    """Neither escapes nor markup of strangers reach the terminal, and what is not shown is counted."""
    folder, summary = folder_with(tmp_path, [item(number, "changed", HOSTILE, "b") for number in range(60)])
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=False, width=100)
    print_summary(console, PLAN, summary)
    print_differences(console, folder)
    text = printed.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text
    assert "with the agent other" in text
    assert "10 more differ" in text
    assert "420 in, 480 out" in text
    assert "4 not handled by streams yet" in text


def test_json_has_the_items_that_differ(tmp_path: Path) -> None:
    folder, summary = folder_with(tmp_path, [item(0, "same", "a", "a"), item(1, "new", "", "b")])
    made = as_json(folder, PLAN, summary, with_items=True)
    assert [each["cause"] for each in made["items"]] == ["1"]
    assert (made["compared"], made["all_same"], made["agent"], made["items_left_out"]) == (2, False, "other", 0)
    assert "items" not in as_json(folder, PLAN, summary, with_items=False)


def test_folders_are_bounded_private_and_found(tmp_path: Path) -> None:
    """The newest twenty that are done are kept, and those that are not; for their owner alone. Names that are none lead nowhere."""
    settings = Settings(home=tmp_path, _env_file=None)
    names = [new_name(NOW_MS + 1_000 * number) for number in range(28)]
    paused = {names[1], names[26], names[27]}
    for name in names:
        folder = make_folder(settings, name)
        folder.write_plan(PLAN)
        if name not in paused:
            folder.write_summary(Counting().summary(name, unhandled=0))
    kept = {path.name for path in (tmp_path / "replays").iterdir()}
    assert kept == {*names[6:], names[1]}
    folder = find_folder(settings, names[-1])
    assert (folder.plan(), folder.summary()) == (PLAN, None)
    assert folder.path.stat().st_mode & 0o077 == 0
    for name in ("", "..", "../replays", "no-such", names[0], "\x00"):
        with pytest.raises(NotFoundError):
            find_folder(settings, name)
    (folder.path / "plan.json").write_text("{")
    with pytest.raises(OttlaError, match="damaged"):
        folder.plan()


def test_bounds_stay_in_what_streams_have_handled() -> None:
    """Nothing above the end or the commit is read; what is compared lies inside of what is read."""
    whole = bounds_of(0, state=0, since=50, until=80, margin=90, end=100, handled=100)
    assert (whole.start, whole.first, whole.last, whole.end) == (0, 50, 80, 90)
    behind = bounds_of(0, state=0, since=50, until=80, margin=90, end=100, handled=60)
    assert (behind.start, behind.first, behind.last, behind.end) == (0, 50, 60, 60)
    far_behind = bounds_of(0, state=20, since=50, until=80, margin=90, end=100, handled=0)
    assert (far_behind.start, far_behind.first, far_behind.last, far_behind.end) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("agents: []", "must hold one agent"),
        ("agents:\n  - id: a\n    kind: offline\n  - id: b\n    kind: offline", "must hold one agent"),
        ("tenants:\n  - id: t\nagents:\n  - id: a\n    kind: offline", "must hold one agent"),
        ("agents:\n  - id: a\n    kind: ofline", "line 3"),
        ("agents: [", "is not YAML"),
        ("", "must be a list"),
    ],
)
def test_a_file_without_exactly_one_agent_is_refused(tmp_path: Path, yaml: str, says: str) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(yaml)
    with pytest.raises(UsageError, match=says):
        read_agent(file)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(),
        Wish(since="-1h", until="-2h"),
        Wish(since="soon"),
        Wish(since="now", until="now"),
        Wish(since="2999-01-01"),
        Wish(since="-1h", until="3/100"),
        Wish(since="2/50", until="3/100"),
        Wish(since="3/100", until="3/100"),
        Wish(since="3/-1"),
    ],
)
async def test_times_and_places_that_cannot_be_replayed_are_refused(wish: Wish) -> None:
    with pytest.raises(UsageError):
        await read_request(Settings(_env_file=None), wish, now_ms=NOW_MS)


def test_offsets_narrow_what_is_compared_and_nothing_of_what_is_read() -> None:
    """Of the named partition the offsets count, within the times; of the others nothing is compared, and all is read as before."""
    by_time = bounds_of(3, state=0, since=50, until=80, margin=90, end=100, handled=100)
    for first, last, expected in ((60, 70, (60, 70)), (10, None, (50, 80)), (60, 500, (60, 80)), (90, None, (80, 80)), (10, 20, (50, 50))):
        found = narrowed(by_time, Request(from_ms=0, to_ms=1, partition=3, first=first, last=last))
        assert (found.first, found.last) == expected
        assert (found.start, found.end) == (0, 90)
        other = narrowed(by_time, Request(from_ms=0, to_ms=1, partition=4, first=first, last=last))
        assert (other.start, other.end, other.last - other.first) == (0, 90, 0)
    assert narrowed(by_time, Request(from_ms=0, to_ms=1)) == by_time
