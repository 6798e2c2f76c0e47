"""`python -m tests.torture`: real services, a load, faults from a seed, and a verdict. Exit code 1 when anything is wrong."""

import asyncio
import os
import random
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.torture.run import PROFILES, Profile, Verdict, Watcher, run

_INTERRUPTED = 130


class _Screen(Watcher):
    """A bar of the events stored, and a line for whatever happens."""

    def __init__(self, console: Console, seed: int, events: int) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("seed {task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self.bar.add_task(str(seed), total=events)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stored(self, count: int) -> None:
        self.bar.update(self._task, completed=count)


@click.command()
@click.option("--seed", "seeds", multiple=True, type=int, help="of load and faults; several for several runs [default: a random one]")
@click.option("--profile", "name", type=click.Choice([*PROFILES]), default="long", show_default=True, help="what the others default to")
@click.option("--events", type=click.IntRange(1), help="messages to post")
@click.option("--conversations", type=click.IntRange(1), help="conversations they are in")
@click.option("--kills", type=click.IntRange(0), help="kills and pauses")
@click.option("--pause", type=click.FloatRange(0), help="seconds of the first pause of each process")
@click.option("--number-rate", type=click.FloatRange(0), help="messages a second that the sender keeps to, of the number [default: any]")
@click.option("--pair-rate", type=click.FloatRange(0), help="the same of each conversation, times what the platform allows")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="of Kafka; of three, one dies at a time")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="folder to keep histories and logs in")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="file to append the verdict to, as Markdown")
def main(
    *,
    seeds: tuple[int, ...],
    name: str,
    events: int | None,
    conversations: int | None,
    kills: int | None,
    pause: float | None,
    number_rate: float | None,
    pair_rate: float | None,
    brokers: str,
    keep: Path | None,
    report: Path | None,
) -> None:
    """Break an installation of its own in every way there is, and judge it from outside."""
    profile = PROFILES[name]
    profile = replace(
        profile,
        events=events or profile.events,
        conversations=conversations or profile.conversations,
        brokers=int(brokers),
        kills=profile.kills if kills is None else kills,
        number_rate=profile.number_rate if number_rate is None else number_rate,
        pair_rate=profile.pair_rate if pair_rate is None else pair_rate,
        lengths=profile.lengths if pause is None else replace(profile.lengths, pause=pause),
    )
    console = Console()
    verdicts = [
        _one(seed, profile, console, keep=keep.absolute() if keep else None, report=report)
        for seed in seeds or (random.SystemRandom().randrange(1 << 32),)
    ]
    sys.exit(0 if all(verdict.clean for verdict in verdicts) else 1)


def _one(seed: int, profile: Profile, console: Console, *, keep: Path | None, report: Path | None) -> Verdict:
    command = f"python -m tests.torture {_arguments(seed)}"
    screen = _Screen(console, seed, profile.events)
    try:
        with screen.bar:
            verdict = asyncio.run(_stoppable(seed, profile, command, screen, keep))
    except (asyncio.CancelledError, KeyboardInterrupt):
        screen.say("stopped before its end; everything it had started is ended")
        sys.exit(_INTERRUPTED)
    for line in verdict.lines():
        screen.say(line)
    if not verdict.clean:
        screen.say(f"seed {seed} FAILED: history and logs are in {verdict.folder}")
    if report is not None:
        with report.open("a") as file:
            file.write(f"\n## `{command}`\n\n{os.cpu_count()} cores.\n\n{verdict.markdown()}")
    return verdict


async def _stoppable(seed: int, profile: Profile, command: str, screen: _Screen, keep: Path | None) -> Verdict:
    """Let SIGTERM and Ctrl-C end a run, with all that it has started."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run(seed, profile, command=command, watcher=screen, keep=keep)


def _arguments(seed: int) -> str:
    """Return the arguments of this call with one seed alone and without where things are written to."""
    kept: list[str] = []
    words = iter(sys.argv[1:])
    for word in words:
        if word.partition("=")[0] in {"--seed", "--keep", "--report"}:
            if "=" not in word:
                next(words, None)
            continue
        kept.append(word)
    return shlex.join(["--seed", str(seed), *kept])


if __name__ == "__main__":
    main()
