"""`python -m tests.torture.bodies --count 1000000 --seed N`: generated and mutated webhook bodies against the real code.

All of them go the whole way through our code in processes of their own (`in_process`), the first `--http` of them also to a real ingress
on a real Kafka (`over_http`). It prints the seed, keeps failing bodies in a folder that it names, and ends with 1 if there are any, if a
process dies, or if the memory of one grows. `--first N --count 1` takes one body of a seed again.
"""

import asyncio
import multiprocessing
import os
import secrets
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.installation import Installation
from tests.torture.in_process import InProcess, silent
from tests.torture.mutants import body_of
from tests.torture.over_http import GROWTH_BYTES_MAX, Posted, post_all
from tests.torture.own_servers import own_servers

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
_CHUNK = 2_000
_KEPT_MAX = 100
_MIB = 1 << 20


@dataclass
class Chunk:
    """What came of some bodies in one process: results by name, numbers and tracebacks of failures, the process and its memory."""

    first: int
    results: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    pid: int = 0
    memory_bytes: int = 0


@dataclass
class Tally:
    """What came of all bodies; `died` says in which of them a process ended."""

    results: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    died: str = ""
    memory_bytes: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, chunk: Chunk) -> None:
        """Take in what came of a chunk."""
        self.results += chunk.results
        self.failures += chunk.failures[: _KEPT_MAX - len(self.failures)]
        self.memory_bytes[chunk.pid].append(chunk.memory_bytes)

    @property
    def growth_bytes(self) -> int:
        """How much the process that grew most grew after the first quarter of its chunks."""
        return max((sizes[-1] - sizes[len(sizes) // 4] for sizes in self.memory_bytes.values()), default=0)


def take_chunk(seed: int, first: int, count: int) -> Chunk:
    """Take bodies all the way, one after the other."""
    return asyncio.run(_take_chunk(seed, first, count))


async def _take_chunk(seed: int, first: int, count: int) -> Chunk:
    silent()
    way = InProcess()
    chunk = Chunk(first=first, pid=os.getpid())
    for number in range(first, first + count):
        try:
            chunk.results[await way.take(body_of(seed, number))] += 1
        except Exception:  # noqa: BLE001  # whatever it is, it is what we look for
            chunk.results["failed"] += 1
            chunk.failures.append((number, traceback.format_exc()))
            way = InProcess()
    chunk.memory_bytes = psutil.Process().memory_info().rss
    return chunk


def take_all(*, seed: int, first: int, count: int, workers: int, progress: Callable[[int], None]) -> Tally:
    """Take bodies all the way in `workers` processes; `progress` gets how many more are done."""
    tally = Tally()
    chunks = ((start, min(_CHUNK, first + count - start)) for start in range(first, first + count, _CHUNK))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: dict[Future[Chunk], tuple[int, int]] = {}
        for start, size in chunks:
            under_way[pool.submit(take_chunk, seed, start, size)] = (start, size)
            if len(under_way) > workers:
                _collect(under_way, tally, progress)
            if tally.died:
                break
        while under_way:
            _collect(under_way, tally, progress)
    return tally


def _collect(under_way: dict[Future[Chunk], tuple[int, int]], tally: Tally, progress: Callable[[int], None]) -> None:
    for done in wait(under_way, return_when=FIRST_COMPLETED).done:
        start, size = under_way.pop(done)
        try:
            tally.add(done.result())
        except BrokenProcessPool:
            tally.died = f"{tally.died} --first {start} --count {size}".strip()
        progress(size)


async def _over_http(seed: int, count: int, progress: Callable[[int], None]) -> tuple[Posted, bool]:
    """Post to an ingress of our own; return what came of it and whether the ingress says at the end that it is ready."""
    async with own_servers("bodies") as settings, Installation(settings, roles=("ingress",)) as installation:
        posted = await post_all(installation, seed=seed, count=count, progress=progress)
        return posted, await installation.says_ready(installation.port)


@contextmanager
def _bar(words: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(words, total=total)
        yield lambda done: progress.update(task, completed=done)


def keep(seed: int, failures: list[tuple[int, str]]) -> Path:
    """Write failing bodies, each beside what went wrong with it, and return their folder."""
    folder = ARTIFACTS / f"bodies-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, words in failures:
        (folder / f"{number}.body").write_bytes(body_of(seed, number))
        (folder / f"{number}.txt").write_text(words, encoding="utf-8")
    return folder


@click.command()
@click.option("--count", default=1_000_000, show_default=True, help="How many bodies go through our code.")
@click.option("--http", default=-1, help="How many of them are posted to a real ingress as well; a twentieth unless given.")
@click.option("--seed", type=int, default=None, help="Which bodies; drawn and printed unless given.")
@click.option("--first", default=0, help="Number of the first body.")
@click.option("--workers", default=os.cpu_count() or 1, show_default="one a processor", help="How many processes.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="File to append what was found to, as Markdown.")
def main(*, count: int, http: int, seed: int | None, first: int, workers: int, report: Path | None) -> None:
    """Send generated and mutated webhook bodies through the real code; end with 1 if any breaks a promise."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    http = (count // 20 if first == 0 else 0) if http < 0 else http
    click.echo(f"seed {seed}")
    done = 0
    with _bar("through our code", count) as progress:

        def more(size: int) -> None:
            nonlocal done
            done += size
            progress(done)

        tally = take_all(seed=seed, first=first, count=count, workers=workers, progress=more)
    wrong = list(tally.failures)
    said = [f"{name} {number:,}" for name, number in tally.results.most_common()]
    lines = [f"{tally.results.total():,} bodies: {', '.join(said)}; memory grew by {tally.growth_bytes // _MIB} MiB"]
    click.echo(lines[0])
    ready = True
    posted = Posted()
    if http:
        with _bar("to a real ingress", http) as progress:
            posted, ready = asyncio.run(_over_http(seed, http, progress))
        wrong += posted.failures
        said = [f"{status} {number:,}" for status, number in posted.answers.most_common()]
        lines += [f"{posted.answers.total():,} requests: {', '.join(said)}; the ingress grew by {posted.growth_bytes // _MIB} MiB"]
        click.echo(lines[-1])
    complaints = [
        f"{len(wrong)} bodies broke a promise: they are in {keep(seed, wrong)}" if wrong else "",
        f"a process died; take its bodies again with --seed {seed} and one of {tally.died}" if tally.died else "",
        "a process of ours keeps growing" if tally.growth_bytes > GROWTH_BYTES_MAX else "",
        "the ingress keeps growing" if posted.growth_bytes > GROWTH_BYTES_MAX else "",
        "" if ready else "the ingress is not ready any more",
    ]
    for complaint in filter(None, complaints):
        click.echo(complaint, err=True)
    if report is not None:
        command = f"python -m tests.torture.bodies --seed {seed} --first {first} --count {count} --http {http}"
        lines += [complaint for complaint in complaints if complaint] or ["no promise was broken"]
        found = "\n".join(f"- {line}" for line in lines)
        with report.open("a", encoding="utf-8") as file:
            file.write(f"\n## `{command}`\n\n{found}\n")
    if any(complaints):
        sys.exit(1)


if __name__ == "__main__":
    main()
