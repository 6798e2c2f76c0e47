"""`python -m tests.torture.day --events 50000 --seed N`: a day of real conversations lived, and then lived again from the log.

A whole installation takes the events. Then the day is replayed: three times, killed in the middle, with another agent, and from archive and
log when the log has forgotten half of it; history and the streams' table are made again. Nothing of that may reach the platform, change a
record or an offset, or come out differently. It ends with 1 if anything did.
"""

import asyncio
import hashlib
import json
import os
import resource
import secrets
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from infra.archive.writer import ARCHIVED
from infra.cassandra.session import Cassandra
from infra.settings import Settings
from infra.simulator.model import SimulatedModel
from schemas.topics import INBOUND
from tests.archive.test_archive import forget
from tests.installation import Installation
from tests.reading import decided, records
from tests.sinks.test_rebuild_history import TABLES, written
from tests.streams.replay.test_replay import at_rest, environment_of, handled, standing
from tests.streams.test_rebuild_tables import stopped
from tests.torture.history import HistoryWriter
from tests.torture.load import Load, Play
from tests.torture.own_servers import own_servers

IN_FULL = 50_000
SECONDS_MAX = 60.0
"""What a replay of the whole day may take on two cores, by the clock."""

_INTERRUPTED = 130
_DIFFERS = 10
_AGENT = """
agents:
  - id: other
    kind: openai
    model: other-model
    fallback: The other cannot.
"""


@dataclass
class Day:
    """What was found: lines for people, and sentences for what is wrong."""

    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Take a line."""
        self.lines.append(line)
        sys.stdout.write(f"{line}\n")

    def demand(self, condition: bool, sentence: str) -> None:
        """Take a sentence unless the condition holds."""
        if not condition:
            self.wrong.append(sentence)
            sys.stdout.write(f"WRONG: {sentence}\n")


@dataclass
class Called:
    """A command that ran: its exit code and JSON, and the seconds that it took, of the clock and of the processors."""

    code: int
    answer: dict[str, Any]
    took_s: float
    processor_s: float


async def call(installation: Installation, *words: str) -> Called:
    """Run a command of ours to its end."""
    began, before = time.monotonic(), _children_s()
    process = await _begin(installation, *words)
    out, told = await process.communicate()
    if process.returncode:
        sys.stdout.write(f"`{' '.join(words)}` ended with {process.returncode}: {told.decode()[-500:]}\n")
    answer = json.loads(out) if out.strip().startswith(b"{") else {}
    return Called(process.returncode or 0, answer, time.monotonic() - began, _children_s() - before)


async def _begin(installation: Installation, *words: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "infra", *words]
    return await asyncio.create_subprocess_exec(*command, env=environment_of(installation), stdout=PIPE, stderr=PIPE)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def is_to_differ(text: str) -> bool:
    """Tell whether the other agent answers a text differently: one text in ten."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % _DIFFERS == 0


def answer_otherwise(model: SimulatedModel) -> None:
    """Have the model of the other agent answer some texts differently, and all others as before."""
    usual = model._text

    def text(asked: Any) -> str:
        answer = usual(asked)
        is_other = asked.model == "other-model" and is_to_differ(answer.removeprefix(model.answer))
        return f"otherwise: {answer}" if is_other else answer

    model._text = text  # type: ignore[method-assign]


async def live(installation: Installation, day: Day, load: Load, folder: Path) -> None:
    """Have the installation take the load and come to rest."""
    settings = installation.settings
    began = time.monotonic()
    with HistoryWriter(folder / "history.jsonl") as writer, Play(load, outside=installation, writer=writer) as play:
        await play.run()
        day.demand(await play.rest(timeout_s=1_800), "the installation did not come to rest")
    await handled(settings)
    await written(settings)
    day.note(f"{load.events:,} events in {load.conversations:,} conversations lived in {time.monotonic() - began:.0f} s")


async def replay_thrice(installation: Installation, day: Day, events: int) -> str:
    """Replay three times, and once killed with -9 in the middle; return the digest, which all must have."""
    digests, took = [], []
    for _ in range(3):
        done = await call(installation, "replay", "--from", "-2d", "-o", "json")
        day.demand(done.code == 0 and bool(done.answer.get("all_same")), f"a replay is not all the same: {done.answer}")
        digests.append(done.answer.get("digest", ""))
        took.append(done)
    first = took[0]
    counts = f"{first.answer.get('compared', 0):,} items, {first.answer.get('answers', {}).get('same', 0):,} answers"
    times = ", ".join(f"{each.took_s:.1f} s ({each.processor_s:.1f} s of processor)" for each in took)
    day.note(f"replayed three times: {counts}; {times}; SHA-256 {digests[0][:16]}")
    day.demand(len(set(digests)) == 1 and bool(digests[0]), f"three replays have the digests {digests}")
    decisions = {event.id for event in decided(await records(installation.settings, INBOUND.name))}
    day.demand(first.answer.get("compared") == len(decisions), f"{first.answer.get('compared')} of {len(decisions)} items were compared")
    if events >= IN_FULL:
        # What else the machine does makes a replay slower and never faster.
        fastest = min(each.took_s for each in took)
        day.demand(fastest < SECONDS_MAX, f"a replay of {events:,} events took {fastest:.0f} s")
    killed = await kill_and_resume(installation, ["--from", "-2d"], after_s=first.took_s / 3)
    day.demand(killed.answer.get("digest") == digests[0], f"killed and gone on with it has the digest {killed.answer.get('digest')}")
    day.note(f"killed with -9 in the middle and gone on with: SHA-256 {killed.answer.get('digest', '')[:16]}")
    return str(digests[0])


async def kill_and_resume(installation: Installation, words: list[str], *, after_s: float) -> Called:
    """Kill a replay some seconds after it has fixed what it reads (sooner if it was done by then) and go on with it."""
    folder = installation.settings.home / "replays"
    while True:
        before = set(_names(folder))
        process = await _begin(installation, "replay", "-o", "json", *words)
        ended = asyncio.create_task(process.communicate())
        while not (made := [name for name in _names(folder) if name not in before and (folder / name / "plan.json").exists()]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # nobody tells
        await asyncio.wait({ended}, timeout=after_s)
        if not ended.done():
            process.kill()
        await ended
        if process.returncode and not (folder / made[0] / "summary.json").exists():
            return await call(installation, "replay", "-o", "json", "--resume", made[0])
        after_s /= 2


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def replay_with_another(installation: Installation, day: Day, folder: Path) -> None:
    """Ask another agent, which answers some texts differently: exactly these answers may be changed."""
    agent = folder / "other.yaml"
    await asyncio.to_thread(agent.write_text, _AGENT)
    answer_otherwise(installation.model)
    done = await call(installation, "replay", "--from", "-2d", "-o", "json", "--agent", str(agent))
    day.demand(done.code == 0, "the replay with another agent failed")
    wanted, found = await asyncio.to_thread(_differing, Path(str(done.answer.get("comparison"))))
    day.demand(found == wanted and bool(wanted), f"{len(found ^ wanted)} answers differ that should not, or the reverse")
    day.note(f"another agent: {len(found):,} of {sum(done.answer.get('answers', {}).values()):,} answers differ, exactly those made to")


def _differing(comparison: Path) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the items whose answers were made to differ, and those that do, by conversation and cause."""
    wanted, found = set(), set()
    with comparison.open("rb") as lines:
        for line in lines:
            item = msgspec.json.decode(line)
            name = item["conversation"], item["cause"]
            if item["was"].get("step") == "reply" and is_to_differ(item["question"]):
                wanted.add(name)
            if item["verdict"] != "same":
                found.add(name)
    return wanted, found


async def forget_half(installation: Installation, day: Day, digest: str) -> None:
    """Archive all, have the log forget the first half of it, and replay: the same."""
    settings = installation.settings
    done = await call(installation, "archive")
    day.demand(done.code == 0, "archiving failed")
    size = sum(path.stat().st_size for path in settings.archive_folder.rglob("*.zst"))
    day.demand((await call(installation, "archive", "verify")).code == 0, "the archive is not what was written")
    ends = await standing(settings)
    for topic in ARCHIVED:
        name = topic.named(settings.topic_prefix)
        await forget(settings, topic, {number: ends[f"{name}/{number}"] // 2 for number in range(settings.partitions)})
    again = await call(installation, "replay", "--from", "-2d", "-o", "json")
    day.demand(again.answer.get("digest") == digest, f"from archive and log it has the digest {again.answer.get('digest')}")
    same = again.answer.get("digest", "")[:16]
    day.note(f"archived ({size / (1 << 20):.1f} MiB), half of the log forgotten, replayed from both: SHA-256 {same}")


async def rebuild_both(installation: Installation, day: Day) -> None:
    """Make history again in another keyspace, row by row the same, and the streams' table."""
    settings = installation.settings
    second = f"{settings.keyspace}_2"
    done = await call(installation, "replay", "--rebuild", "history", "--keyspace", second, "-o", "json")
    day.demand(done.code == 0 and done.answer.get("records") == done.answer.get("total"), f"rebuilding history: {done.answer}")
    cassandra = await Cassandra.connect(settings)
    try:
        was, now = [await fingerprints(cassandra, keyspace) for keyspace in (settings.keyspace, second)]
    finally:
        await cassandra.close()
    different = [table for table in TABLES if was[table] != now[table]]
    day.demand(not different, f"rebuilt tables differ: {different}")
    day.note(f"history rebuilt in {done.took_s:.0f} s: {sum(count for count, _ in was.values()):,} rows in {len(TABLES)} tables")
    await installation.running["streams"].end()
    await stopped(settings)
    table = await call(installation, "replay", "--rebuild", "tables", "-o", "json")
    verdicts = {verdict: count for verdict, count in table.answer.get("verdicts", {}).items() if count}
    day.demand(table.code == 0 and list(verdicts) == ["same"], f"the streams' table made again: {verdicts} {table.answer.get('examples')}")
    day.note(f"the streams' table made again in {table.took_s:.0f} s: {verdicts.get('same', 0):,} conversations the same")


async def fingerprints(cassandra: Cassandra, keyspace: str) -> dict[str, tuple[int, int]]:
    """Return for each table how many rows it has and a sum over the hashes of all of them."""
    found = {}
    for table in TABLES:
        rows = await cassandra.execute(f"SELECT * FROM {keyspace}.{table}", timeout_s=300)  # noqa: S608  # names of our own
        hashes = (hashlib.sha256(str(sorted(row.items())).encode("utf-8", "surrogatepass")).digest()[:16] for row in rows)
        found[table] = (len(rows), sum(int.from_bytes(each, "big") for each in hashes))
    return found


async def live_and_replay(settings: Settings, load: Load, folder: Path) -> Day:
    """Live a day and do all of it; return what was found."""
    day = Day()
    async with Installation(settings, environment={"OTTLA_AI_TIMEOUT": "30"}) as installation:
        await live(installation, day, load, folder)
        was = await at_rest(settings)
        requests = installation.platform.books.counts["requests"]
        digest = await replay_thrice(installation, day, load.events)
        await replay_with_another(installation, day, folder)
        day.demand(await standing(settings) == was, "a replay moved an offset, or wrote a record")
        await forget_half(installation, day, digest)
        await rebuild_both(installation, day)
        more = installation.platform.books.counts["requests"] - requests
        day.demand(more == 0, f"{more} requests reached the platform while the day was replayed")
        day.note(f"requests at the platform while all this was done: {more}")
    return day


async def _main(events: int, conversations: int, seed: int, progress: Callable[[str], None]) -> Day:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        # All that was started ends with it.
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with own_servers("day") as settings:
        progress(f"seed {seed}")
        return await live_and_replay(settings, Load(events=events, conversations=conversations, seed=seed), settings.home.parent)


@click.command()
@click.option("--events", default=IN_FULL, show_default=True, type=click.IntRange(10), help="messages of the day")
@click.option("--conversations", type=click.IntRange(1), help="conversations they are in [default: a fortieth of the events]")
@click.option("--seed", type=int, default=None, help="which day; drawn and printed unless given")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="file to append what was found to, as Markdown")
def main(*, events: int, conversations: int | None, seed: int | None, report: Path | None) -> None:
    """Live a day and replay it; end with 1 if anything came out differently."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    many = conversations or max(1, events // 40)
    try:
        day = asyncio.run(_main(events, many, seed, click.echo))
    except asyncio.CancelledError:
        click.echo("stopped before its end; everything it had started is ended", err=True)
        sys.exit(_INTERRUPTED)
    if report is not None:
        lines = "\n".join(f"- {line}" for line in [*day.lines, *(f"WRONG: {sentence}" for sentence in day.wrong)])
        with report.open("a", encoding="utf-8") as file:
            command = f"python -m tests.torture.day --events {events} --conversations {many} --seed {seed}"
            file.write(f"\n## `{command}`\n\n{os.cpu_count()} cores.\n\n{lines}\n")
    sys.exit(1 if day.wrong else 0)


if __name__ == "__main__":
    main()
