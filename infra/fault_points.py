"""Where and how tests break a process on purpose. Off, and free, unless `OTTLA_TEST_FAULTS` is set, which only tests do.

Its words, separated by blanks:

- `crash=POINT:N` kills the process with SIGKILL the N-th time it comes to a point, `stop=POINT:N` pauses it there with SIGSTOP
- `without=SAFEGUARD,...` turns safeguards off, to show that the tests miss them
- `clock=SECONDS` is how far the wall clock is off; monotonic time stays what it is
- `block=SECONDS` lets SIGUSR2 block the main thread, and with it the event loop, for so long
- `file=PATH` names a file with more such words (all but `block`), looked at each time: so they change while the process runs

Everything else sees four functions that do nothing when the variable is not there.
"""

import ipaddress
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog

from infra.errors import RefusedError

log = structlog.get_logger()

VARIABLE = "OTTLA_TEST_FAULTS"

POINTS = (
    "ingress.before_produce",
    "ingress.produced",
    "streams.decoded",
    "streams.before_agent",
    "streams.answered",
    "streams.before_outputs",
    "streams.outputs_acknowledged",
    "streams.row_logged",
    "streams.before_commit",
    "streams.before_dead_letter",
    "streams.dead_letter_written",
    "sender.before_claim",
    "sender.claimed",
    "sender.leaving",
    "sender.answered",
    "sender.waiting_for_status",
    "sender.before_plan",
    "sender.planned",
    "sender.outcome_recorded",
    "sender.before_dead_letter",
    "sender.dead_letter_written",
    "consumer.before_commit",
    "consumer.committed",
    "sinks.before_dead_letter",
    "sinks.dead_letter_written",
    "history.before_rows",
    "history.index_written",
    "history.rows_written",
)
"""Every point there is, in the order in which a message comes to them."""

SAFEGUARDS = (
    "acknowledged",  # ingress: 200 only when the log has it
    "dedupe",  # streams: an item whose id is known is not answered
    "generation",  # streams: nothing is written for a partition that is somebody else's
    "outputs",  # streams: the row is written when the outputs are acknowledged
    "watermark",  # both: offsets are committed below the oldest unfinished one
    "claim",  # sender: what leaves was claimed before
    "fence",  # sender: a claim that the broker refuses is none
    "claim-time",  # sender: a claim is looked at once more right before the bytes
    "ledger",  # sender: what became of the sends is read when partitions are taken
)


@dataclass(frozen=True)
class Faults:
    """What the words say; a point is its name and the how-manieth time."""

    crash: tuple[str, int] = ("", 0)
    stop: tuple[str, int] = ("", 0)
    without: frozenset[str] = frozenset()
    clock_ms: int = 0
    block_s: float = 0.0
    file: str = ""


def parse(text: str) -> Faults:
    """Return what the words say; ValueError for a word that says nothing."""
    faults: dict[str, object] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        match name:
            case "crash" | "stop":
                faults[name] = _point(value)
            case "without":
                faults[name] = frozenset(_known(each, SAFEGUARDS) for each in value.split(","))
            case "clock":
                faults["clock_ms"] = int(float(value) * 1000)
            case "block":
                faults["block_s"] = float(value)
            case "file":
                faults[name] = value
            case _:
                raise ValueError(f"{VARIABLE} has no word {name!r}")
    return Faults(**faults)  # type: ignore[arg-type]  # each word was given its own type above


def _point(value: str) -> tuple[str, int]:
    name, _, count = value.partition(":")
    return _known(name, POINTS), int(count or 1)


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ValueError(f"{VARIABLE} names {name!r}: there are {', '.join(names)}")
    return name


class _Armed:
    """The faults of this process: those of its environment, and those of the file as it is now."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.faults = self._fixed = parse(text)
        self._stamp: tuple[int, int] | None = None
        self._seen: Counter[str] = Counter()
        if self._fixed.block_s:
            signal.signal(signal.SIGUSR2, self._block)

    def _block(self, *_: object) -> None:
        time.sleep(self._fixed.block_s)

    def _look(self) -> Faults:
        if self._fixed.file:
            try:
                found = os.stat(self._fixed.file)  # noqa: PTH116  # at every point: a Path each time would be the larger part
                stamp: tuple[int, int] | None = (found.st_ino, found.st_mtime_ns)
            except FileNotFoundError:
                stamp = None
            if stamp != self._stamp:
                self._stamp = stamp
                self.faults = self._fixed if stamp is None else parse(f"{self._text} {Path(self._fixed.file).read_text('utf-8')}")
                self._seen.clear()
        return self.faults

    def point(self, name: str) -> None:
        faults = self._look()
        if name in (faults.crash[0], faults.stop[0]):
            self._seen[name] += 1
            for place, number in ((faults.crash, signal.SIGKILL), (faults.stop, signal.SIGSTOP)):
                if place == (name, self._seen[name]):
                    os.write(2, f"{number.name} at {name}, time {place[1]}\n".encode())
                    os.kill(os.getpid(), number)

    def without(self, safeguard: str) -> bool:
        return safeguard in self._look().without

    def clock_offset_ms(self) -> int:
        return self._look().clock_ms

    def record_timestamp_ms(self) -> int:
        offset_ms = self.clock_offset_ms()
        return time.time_ns() // 1_000_000 + offset_ms if offset_ms else 0


_armed: _Armed | None = None


def arm() -> None:
    """Take the words from this process's environment, if there are any; done once when this module is imported."""
    global _armed  # noqa: PLW0603  # the process is what is broken
    _armed = _Armed(os.environ[VARIABLE]) if VARIABLE in os.environ else None


arm()


def point(name: str) -> None:
    """Come to a named point, where a test may kill or pause the process."""
    if _armed is not None:
        _armed.point(name)


def without(safeguard: str) -> bool:
    """Tell whether a test has turned a safeguard off."""
    return _armed is not None and _armed.without(safeguard)


def clock_offset_ms() -> int:
    """Return how far the wall clock is off, milliseconds."""
    return 0 if _armed is None else _armed.clock_offset_ms()


def record_timestamp_ms() -> int:
    """Return what a record is stamped with, milliseconds since 1970; 0: the producer's own time."""
    return 0 if _armed is None else _armed.record_timestamp_ms()


def refuse_elsewhere(kafka: str) -> None:
    """Say loudly that faults are on; RefusedError unless every one of the brokers is on this machine's loopback."""
    if _armed is None:
        return
    if not all(_is_loopback(server.rpartition(":")[0]) for server in kafka.split(",")):
        raise RefusedError(f"{VARIABLE} is for tests on this machine's own Kafka: unset it.")
    log.warning("THIS PROCESS IS TO BE BROKEN BY TESTS", faults=os.environ[VARIABLE], without=sorted(_armed.faults.without))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
