"""One run: an installation, a load, faults; then rest, final readings and the verdict."""

import asyncio
import contextlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from confluent_kafka import KafkaException

from infra.simulator.faults import Fault as Simulated
from infra.simulator.statuses import StatusTimes
from tests.torture.checker import Report, check
from tests.torture.cluster import Cluster, run_settings
from tests.torture.faults import Ground, Lengths, Recovered, RunHistory
from tests.torture.final import write_final, write_readings
from tests.torture.history import Begun, read_history
from tests.torture.keeper import Say
from tests.torture.load import Load, Play
from tests.torture.progress import Groups, Recovery, Sends
from tests.torture.schedule import schedule

_KEPT = 1_000
_POLLED_CONVERSATIONS, _POLL_S = 4, 3.0
_PACE_S = 1.0
_RATE_MIN = 1.0
_OVERRUN_S = 5.0
_LOOK_AGAIN_S = 1.0
_STATUS_TIMES = StatusTimes(sent_s=0.05, delivered_s=0.3, read_s=1.0, read_share=0.9)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a run is to do.

    `others`: more than kills, pauses and what platform and model do; `ambiguous`: the share of sends whose answer is lost; `rest_s`: how
    long coming to rest may take; `number_rate`, `pair_rate`: what the sender keeps to (0: nothing); `brokers`: of Kafka, one or three.
    """

    events: int
    conversations: int
    kills: int
    lengths: Lengths
    others: bool
    unknown_wait_s: float
    model_timeout_s: float
    rest_s: float
    ambiguous: float = 0.05
    number_rate: float = 0.0
    pair_rate: float = 0.0
    brokers: int = 1

    def environment(self) -> dict[str, str]:
        """Return what the roles are told of it."""
        return {
            "OTTLA_UNKNOWN_WAIT": f"{self.unknown_wait_s:g}",
            "OTTLA_AI_TIMEOUT": f"{self.model_timeout_s:g}",
            "OTTLA_NUMBER_RATE": f"{self.number_rate:g}",
            "OTTLA_PAIR_RATE": f"{self.pair_rate:g}",
        }

    def steady(self) -> dict[str, Simulated]:
        """Return the platform's faults that are on all the time: lost answers and statuses as they come in the world."""
        return {
            "cut": Simulated(probability=self.ambiguous),
            "status_twice": Simulated(probability=0.05, seconds=0.5),
            "status_disorder": Simulated(probability=0.05),
            "status_late": Simulated(probability=0.02, seconds=self.unknown_wait_s / 4),
            "status_early": Simulated(probability=0.05),
            "status_missing": Simulated(probability=0.002),
        }


_BRIEF = Lengths(pause=10.0, again=10.0, away=12.0, window=3.0, block=10.0, slow_answer=5.0, slow_model=8.0)
_LONG = Lengths(pause=60.0, again=12.0, away=15.0, window=6.0, block=40.0, slow_answer=30.0, slow_model=40.0)
PROFILES = {
    "smoke": Profile(
        events=300, conversations=30, kills=3, lengths=_BRIEF, others=False, unknown_wait_s=8.0, model_timeout_s=5.0, rest_s=120.0
    ),
    # The one that runs with every change keeps to rates, as installations do.
    "short": Profile(
        events=5_000,
        conversations=300,
        kills=12,
        lengths=_BRIEF,
        others=False,
        unknown_wait_s=10.0,
        model_timeout_s=5.0,
        rest_s=180.0,
        number_rate=160.0,
        pair_rate=6.0,
    ),
    "long": Profile(
        events=100_000, conversations=1_000, kills=60, lengths=_LONG, others=True, unknown_wait_s=60.0, model_timeout_s=30.0, rest_s=600.0
    ),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a run; `recovered` are the faults after which something had to work again."""

    report: Report
    recovered: Sequence[Recovered]
    came_to_rest: bool
    seconds: float
    folder: Path

    @property
    def clean(self) -> bool:
        """Whether the checker found nothing, all came to rest, and everything worked again after every fault (perhaps late)."""
        return self.report.clean and self.came_to_rest and all(each.seconds is not None for each in self.recovered)

    def lines(self) -> list[str]:
        """Return the verdict for a terminal."""
        late = [each for each in self.recovered if not each.in_time]
        return [
            *self.report.lines(),
            *(
                f"too late: {each.fault} of {each.target}, {_spoken(each.seconds)} instead of {each.bound_s:g} s"
                for each in late
                if each.bound_s
            ),
            *(f"never worked again: {each.fault} of {each.target}" for each in late if each.seconds is None),
            *([] if self.came_to_rest else ["it did not come to rest"]),
            f"{self.seconds:.0f} s",
        ]

    def markdown(self) -> str:
        """Return the verdict as tables."""
        lines = ["| works again after | times | p50 s | max s | promised s | later |", "|---|---:|---:|---:|---:|---:|"]
        for (fault, bound_s), group in groupby(sorted(self.recovered, key=_by_fault), key=_by_fault):
            each = list(group)
            times = [one.seconds for one in each if one.seconds is not None]
            p50, longest = (f"{statistics.median(times):.1f}", f"{max(times):.1f}") if times else ("", "")
            late = sum(not one.in_time for one in each)
            lines.append(f"| {fault} | {len(each)} | {p50} | {longest} | {bound_s or ''} | {late} |")
        rest = "came to rest" if self.came_to_rest else "**did not come to rest**"
        return f"{self.report.markdown()}\n" + "\n".join(lines) + f"\n\nIt took {self.seconds:.0f} s and {rest}.\n"


def _by_fault(recovered: Recovered) -> tuple[str, float]:
    return recovered.fault, recovered.bound_s or 0.0


def _spoken(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


class Watcher:
    """Who shows a run; shows nothing."""

    def say(self, text: str) -> None:
        """Show a line."""

    def stored(self, count: int) -> None:
        """Show how many events are stored by now."""


async def run(seed: int, profile: Profile, *, command: str, watcher: Watcher, keep: Path | None = None) -> Verdict:
    """Do a run in a folder of its own (in `keep`, or a temporary one) and judge it.

    The folder is removed when the verdict is clean and it was not to be kept; history, logs and the servers' data stay otherwise.
    """
    began = time.monotonic()
    folder = keep / f"seed-{seed}" if keep else Path(tempfile.mkdtemp(prefix=f"ottla-torture-{seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "history.jsonl"
    screen = _Screen(folder / "run.log", watcher)
    screen.say(f"seed {seed}: {folder}")
    with RunHistory(path) as history:
        asked = {"events": profile.events, "conversations": profile.conversations, "kills": profile.kills, "ambiguous": profile.ambiguous}
        history.write(Begun(at=time.time(), seed=seed, command=command, profile=dict(asked)))
        came_to_rest, recovered = await _do(seed, profile, folder / "home", history, screen)
    report = await asyncio.to_thread(lambda: check(read_history(path)))
    verdict = Verdict(report=report, recovered=recovered, came_to_rest=came_to_rest, seconds=time.monotonic() - began, folder=folder)
    (folder / "verdict.txt").write_text("\n".join(verdict.lines()) + "\n")
    if verdict.clean and keep is None:
        shutil.rmtree(folder)
    return verdict


class _Screen:
    """Says what happens to whoever watches, and to a file."""

    def __init__(self, path: Path, watcher: Watcher) -> None:
        self.watcher = watcher
        self._path = path
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        with self._path.open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
        self.watcher.say(f"{time.monotonic() - self._began:7.1f} {text}")


async def _do(seed: int, profile: Profile, home: Path, history: RunHistory, screen: "_Screen") -> tuple[bool, list[Recovered]]:
    (home / "logs").mkdir(parents=True, exist_ok=True)
    cluster = Cluster(
        run_settings(home),
        seed=seed,
        kept=_KEPT,
        say=screen.say,
        brokers=profile.brokers,
        block_s=profile.lengths.block,
        environment=profile.environment(),
    )
    load = Load(events=profile.events, conversations=profile.conversations, seed=seed, rate=_RATE_MIN)
    async with cluster:
        screen.say("ready")
        cluster.platform.times = _STATUS_TIMES
        cluster.platform.faults.update(profile.steady())
        groups, sends = Groups(cluster.settings), Sends(cluster.settings.partitions)
        cluster.platform.books.watchers.append(sends.saw)
        with Play(load, outside=cluster, writer=history) as play:
            playing = asyncio.create_task(play.run())
            playing.add_done_callback(_noted)
            ground = Ground(
                cluster=cluster,
                history=history,
                recovery=Recovery(groups, sends),
                chance=random.Random(seed),
                lengths=profile.lengths,
                say=screen.say,
                probe=play.probe,
            )
            planned = schedule(ground.chance, kills=profile.kills, lengths=profile.lengths, others=profile.others)
            async with _polling(cluster, play, history, seed), _pacing(play, ground, profile.events, screen.watcher) as pace:
                for number, fault in enumerate(planned):
                    pace.left_s = fault.seconds
                    pace.then_s = sum(each.seconds for each in planned[number + 1 :])
                    await fault.act(ground)
                screen.say("no more faults")
                pace.is_over = True
                await playing
            screen.say("all is stored")
            came_to_rest = await _rest(cluster, groups, screen.say, timeout_s=profile.rest_s)
            screen.say("final readings")
            came_to_rest &= await write_final(cluster, play.conversations, history)
    return came_to_rest, ground.recovered


def _noted(playing: asyncio.Task[None]) -> None:
    """Keep the end of a load that nobody waits for any more, because the run was stopped, off the terminal."""
    if not playing.cancelled():
        playing.exception()


@dataclass
class _Pace:
    """About how many seconds this fault still takes, and those after it: as long the load is to last."""

    left_s: float = 0.0
    then_s: float = 0.0
    is_over: bool = False


@asynccontextmanager
async def _pacing(play: Play, ground: Ground, events: int, watcher: Watcher) -> AsyncIterator[_Pace]:
    """Let the load go on for as long as the faults do, and then as fast as it is answered."""
    pace = _Pace()

    async def adjust() -> None:
        while True:
            left_s = max(pace.left_s, _OVERRUN_S) + pace.then_s
            play.rate = 0.0 if pace.is_over else max(_RATE_MIN, (events - play.stored) / left_s)
            watcher.stored(play.stored)
            await asyncio.sleep(_PACE_S)
            pace.left_s -= _PACE_S

    async with _beside(adjust()):
        yield pace


@asynccontextmanager
async def _polling(cluster: Cluster, play: Play, history: RunHistory, seed: int) -> AsyncIterator[None]:
    """Read a few conversations again and again, as somebody does who looks at them while things happen."""
    watched = random.Random(seed).sample(play.conversations, min(_POLLED_CONVERSATIONS, len(play.conversations)))

    async def poll() -> None:
        while True:
            # The ingress is among those that are paused.
            with contextlib.suppress(TimeoutError, ExceptionGroup):
                await write_readings(cluster, watched, history, final=False)
            await asyncio.sleep(_POLL_S)

    async with _beside(poll()):
        yield


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do something endless beside the body; if it fails, so does the body's end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _rest(cluster: Cluster, groups: Groups, say: Say, *, timeout_s: float) -> bool:
    """Wait until nothing is left to handle, send or tell, twice in a row: what is told is handled, what is handled is told."""
    poster = cluster.platform.poster
    assert poster is not None
    said_at = until = time.monotonic()
    until += timeout_s
    quiet = 0
    while time.monotonic() < until:
        try:
            left = await groups.lag() | {"statuses": poster.pending}
        except (KafkaException, TimeoutError):
            left = {"kafka": 1}
        quiet = 0 if any(left.values()) else quiet + 1
        if quiet > 1:
            return True
        if time.monotonic() - said_at > 10:
            said_at = time.monotonic()
            say("coming to rest: " + ", ".join(f"{name} {count}" for name, count in left.items() if count))
        await asyncio.sleep(_LOOK_AGAIN_S)
    say(f"it does not come to rest: {left}")
    return False
