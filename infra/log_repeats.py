"""Lets libraries say the same thing once in a while instead of forty times a second, as aiokafka does while a broker is away."""

import logging
import re
import time
from collections.abc import Callable

AGAIN_S = 30.0
_KINDS_MAX = 512
_BEGINNING = 120
_NUMBERS = re.compile(r"\d+")


class Repeats(logging.Filter):
    """Passes the first record of a kind and then one every `AGAIN_S` seconds, with how many were left out since; one for each handler.

    A kind is a logger, a level and how the text begins, all numbers taken for the same. Only loggers below one of `names` are held back.
    """

    def __init__(self, names: tuple[str, ...], *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._names = frozenset(names)
        self._now = now
        self._said: dict[tuple[str, int, str], list[float]] = {}  # when it was last said, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be said; adds to its text how many were not."""
        if record.name.partition(".")[0] not in self._names:
            return True
        kind = (record.name, record.levelno, _NUMBERS.sub("0", record.getMessage())[:_BEGINNING])
        said = self._said.get(kind)
        if said is not None and self._now() - said[0] < AGAIN_S:
            said[1] += 1
            return False
        if said is not None and said[1]:
            record.msg, record.args = f"{record.getMessage()} (and {int(said[1])} more like it)", ()
        if said is None and len(self._said) >= _KINDS_MAX:
            self._said.clear()
        self._said[kind] = [self._now(), 0]
        return True
