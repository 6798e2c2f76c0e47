"""Retries of a whole event: a few tries for what may be wrong with the event, endless patience for a dependency that is away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from infra.metrics import EVENT_RETRIES

log = structlog.get_logger()

R = TypeVar("R")

_JITTER = 0.2
_TOLD_MAX = 100


class AwayError(Exception):
    """A dependency cannot be reached. Nothing is wrong with the event, so this is no try: it waits and goes on."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long: `tries` for an event, the first wait, the factor to the next, and the longest wait for what is away."""

    tries: int = 3
    first_delay_s: float = 5.0
    factor: float = 2.0
    away_delay_s: float = 0.5
    away_delay_s_max: float = 5.0


# A dependency that is away is away for thousands of lanes at once: one of them says so, and again every few seconds.
_TOLD_EVERY_S = 5.0
_told_at_s: dict[str, float] = {}


def _tell(error: str, *, what: str, attempts: int) -> None:
    now = time.monotonic()
    if now - _told_at_s.get(error, -_TOLD_EVERY_S) >= _TOLD_EVERY_S:
        if len(_told_at_s) > _TOLD_MAX:
            _told_at_s.clear()
        _told_at_s[error] = now
        log.warning("waiting for a dependency", what=what, error=error, attempts=attempts)


async def with_retries(
    attempt: Callable[[], Awaitable[R]], *, patience: Patience, what: str, stage: str = "", final: tuple[type[Exception], ...] = ()
) -> tuple[R, int]:
    """Return what `attempt` returns and the number of tries it took; what is done again is counted for `stage`, if one is named.

    Raises the last error when the tries are used up, and an error of the `final` types at once. AwayError never uses up a try.
    """
    tries, away = 0, 0
    while True:
        try:
            return await attempt(), tries + 1
        except AwayError as error:
            away += 1
            cause = "away"
            delay = min(patience.away_delay_s * 2 ** min(away - 1, 10), patience.away_delay_s_max)
            _tell(str(error), what=what, attempts=away)
        except final:
            raise
        except Exception as error:
            tries += 1
            if tries >= patience.tries:
                raise
            cause = "error"
            delay = patience.first_delay_s * patience.factor ** (tries - 1)
            log.warning("will try again", what=what, error=f"{type(error).__name__}: {error}", tries=tries, delay_s=delay)
        if stage:
            EVENT_RETRIES.labels(stage, cause).inc()
        await asyncio.sleep(delay * (1 + _JITTER * random.random()))  # noqa: S311  # jitter, no secret
