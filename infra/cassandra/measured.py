"""What is measured of each statement: how long its caller waited, whether it was slow, why it failed. Names have no values in them."""

import re
import time
from functools import lru_cache
from types import TracebackType

import structlog
from prometheus_client import Histogram

from infra.metrics import DATABASE_ERRORS, DATABASE_IN_FLIGHT, DATABASE_SECONDS, DATABASE_SLOW

log = structlog.get_logger()

SLOW_S = 0.5
_TELL_EVERY_S = 5.0

_WORDS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|TRUNCATE)\b(?:.*?\bFROM\b|\s+INTO\b)?\s+([@\w.\"]+)", re.IGNORECASE | re.DOTALL)
_told_at_s: dict[str, float] = {}


@lru_cache(maxsize=1024)
def name_of(cql: str) -> str:
    """Return a statement's verb and table, such as `insert messages`; `schema` for what changes tables, whatever it names."""
    found = _WORDS.match(cql)
    if found is None:
        return "schema"
    verb, place = found.groups()
    *keyspace, table = place.replace('"', "").split(".")
    # Keyspaces of ours have any name; the server's own tell what is asked.
    prefix = f"{keyspace[0]}." if keyspace and keyspace[0].startswith("system") else ""
    return f"{verb.lower()} {prefix}{table.lower()}"


class measured:  # noqa: N801  # used like contextlib's, and there are several for each message: a generator would cost twice as much
    """Measure the statement of this name that is run inside `with`; what it raises goes on."""

    __slots__ = ("_name", "_started")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        DATABASE_IN_FLIGHT.inc()
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        took_s = time.perf_counter() - self._started
        DATABASE_IN_FLIGHT.dec()
        _seconds(self._name).observe(took_s)
        if isinstance(error, Exception):
            DATABASE_ERRORS.labels(self._name, type(error).__name__).inc()
        if took_s >= SLOW_S:
            DATABASE_SLOW.labels(self._name).inc()
            _tell(self._name, took_s)


@lru_cache(maxsize=256)
def _seconds(name: str) -> Histogram:
    return DATABASE_SECONDS.labels(name)


def _tell(name: str, took_s: float) -> None:
    # A database that is slow is slow for thousands of statements at once: each name says so now and then.
    now = time.monotonic()
    if now - _told_at_s.get(name, -_TELL_EVERY_S) >= _TELL_EVERY_S:
        _told_at_s[name] = now
        log.warning("slow statement", statement=name, took_s=round(took_s, 3))
