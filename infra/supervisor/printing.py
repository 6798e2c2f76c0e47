"""One readable stream from the log lines of many processes."""

import contextlib
import datetime as dt
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

_OWN_KEYS = frozenset({"event", "level", "role", "timestamp", "exception", "logger"})
_WIDTH = 9
_REPEAT_S, _REMEMBERED = 5.0, 500
_NUMBERS = re.compile(r"\d+")
_PLAIN_VALUE = re.compile(r"[^\s\"=]+")
_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_LEVEL_COLOURS = {"debug": _DIM, "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_ROLE_COLOURS = {
    "up": _BOLD,
    "ingress": "\x1b[36m",
    "streams": "\x1b[35m",
    "sinks": "\x1b[34m",
    "simulator": "\x1b[32m",
}


class Repeats:
    """Drops complaints that come again and again: a client without its server may repeat one hundreds of times a second.

    What is the same line but for its numbers is shown once in five seconds, with the count of those dropped. Lines that carry
    values are the same only if all is the same, since each may speak of another message; information is never dropped.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def dropped_before(self, role: str, record: Mapping[str, Any]) -> int | None:
        """Return how many lines like this were dropped since the last that was shown; None: drop this one too."""
        if record.get("level") in ("info", "debug"):
            return 0
        values = {key: value for key, value in record.items() if key not in ("timestamp", "role")}
        own = values.keys() - (_OWN_KEYS - {"exception"})
        key = (role, str(values) if own else _NUMBERS.sub("0", str(record["event"])))
        now = self._clock()
        shown_at, dropped = self._seen.pop(key, (-_REPEAT_S, 0))
        if now - shown_at < _REPEAT_S:
            self._seen[key] = (shown_at, dropped + 1)
            return None
        self._seen[key] = (now, 0)
        # The order of a dict is that of the last use, so the first is what was not seen for longest.
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return dropped


class Stream(Protocol):
    """What lines are written to, each at once and from any thread."""

    def write(self, text: str, /) -> int:
        """Take a line."""

    def flush(self) -> None:
        """Let it be seen."""


class Printer:
    """Writes lines as `HH:MM:SS role level message key=value`, in colour where asked."""

    def __init__(self, stream: Stream, *, colour: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._colour = stream, colour
        self._repeats = Repeats(clock)

    def say(self, level: str, event: str, /, **values: object) -> None:
        """Print a line of our own."""
        self._write(self._formatted("up", {"event": event, "level": level, **values}))

    def child_line(self, role: str, line: bytes) -> None:
        """Print a line of a child: a JSON record as a sentence with values, anything else as it is."""
        record = _record(line)
        if record is None:
            text = line.decode(errors="replace").rstrip()
            record = {"event": text, "level": ""} if text else None
        if record is None:
            return
        more = self._repeats.dropped_before(role, record)
        if more is None:
            return
        if more:
            record = {**record, "event": f"{record['event']} (and {more} more like it)"}
        self._write(self._formatted(role, record))

    def _formatted(self, role: str, record: Mapping[str, Any]) -> str:
        level = str(record.get("level", ""))
        event = printable(str(record["event"]))
        values = " ".join(f"{printable(key)}={_value(value)}" for key, value in record.items() if key not in _OWN_KEYS)
        parts = [
            self._painted(_clock(record.get("timestamp")), _DIM),
            self._painted(f"{printable(role):{_WIDTH}}", _ROLE_COLOURS.get(role.partition("-")[0], "")),
            self._painted(f"{printable(level):7}", _LEVEL_COLOURS.get(level, "")),
            event,
        ]
        if values:
            parts.append(self._painted(values, _DIM))
        trace = "".join(f"\n    {printable(line)}" for line in str(record.get("exception", "")).splitlines())
        return " ".join(parts) + trace + "\n"

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour and colour else text

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of show: what is logged may come from a stranger's message."""
    if text.isprintable():
        return text
    return "".join(part if part.isprintable() else _escaped(part) for part in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        record = orjson.loads(line)
    except ValueError:
        return None
    return record if "event" in record else None


def _value(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    text = printable(text)
    return text if not isinstance(value, str) or _PLAIN_VALUE.fullmatch(text) else f'"{text}"'


def _clock(timestamp: object) -> str:
    with contextlib.suppress(ValueError, TypeError):
        return dt.datetime.fromisoformat(str(timestamp)).astimezone().strftime("%H:%M:%S")
    return dt.datetime.now().astimezone().strftime("%H:%M:%S")
