"""Looks every few seconds where the groups stand, keeps the last minute of it, and shows it as metrics."""

import asyncio
from typing import Any

import structlog

from infra.clock import Clock, SystemClock
from infra.lag.burrow import State
from infra.lag.figures import TopicFigures, as_rows, lag_seconds, retention_left_seconds, skew
from infra.lag.reader import LagReader
from infra.lag.windows import INTERVAL_S, Windows
from infra.metrics import (
    GROUP_LAG_MESSAGES,
    GROUP_LAG_SECONDS,
    GROUP_LOST_MESSAGES,
    GROUP_OFFSETS,
    GROUP_RETENTION_LEFT_SECONDS,
    GROUP_SKEW,
    GROUP_STATE,
    TOPIC_OFFSETS,
)
from infra.retries import AwayError
from infra.settings import Settings

log = structlog.get_logger()

_GAUGES = (
    GROUP_LAG_MESSAGES,
    GROUP_LAG_SECONDS,
    GROUP_LOST_MESSAGES,
    GROUP_OFFSETS,
    GROUP_RETENTION_LEFT_SECONDS,
    GROUP_SKEW,
    GROUP_STATE,
    TOPIC_OFFSETS,
)
_FRESH_S = 1.0
_NOT_YET = "the groups were not looked at yet"


class LagWatcher:
    """The one place of a process that knows the lag. `away` says why nothing is known; empty: `figures` are what was seen last."""

    def __init__(self, settings: Settings, *, timeout_s: float = INTERVAL_S, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._reader = LagReader(settings, timeout_s=timeout_s, clock=self._clock)
        self._windows = Windows(raw_days=settings.raw_retention_days)
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self.figures: list[TopicFigures] = []
        self.away = _NOT_YET

    async def run(self) -> None:
        """Look again and again; whatever goes wrong, the next look comes."""
        while True:
            begun = self._clock.monotonic()
            try:
                await self.look()
            except AwayError as error:
                log.warning("lag is not known", error=str(error))
            except Exception:
                log.exception("lag could not be looked at")
            await asyncio.sleep(max(0.0, INTERVAL_S - (self._clock.monotonic() - begun)))

    async def look(self) -> None:
        """Look now, or wait for the look that is under way; AwayError if the broker does not answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="look at lag")
        # One who stops waiting must not end the look of the others.
        await asyncio.shield(self._looking)

    async def rows(self, *, partitions: bool = False) -> list[dict[str, Any]]:
        """Return the figures as they are now, for JSON, looking again if the last look is over a second old; AwayError."""
        if self.away or self._clock.monotonic() - self._looked_at > _FRESH_S:
            await self.look()
        return self.rows_seen(partitions=partitions)

    def rows_seen(self, *, partitions: bool = False) -> list[dict[str, Any]]:
        """Return the figures of the last look, with seconds counted until now."""
        return as_rows(self.figures, now_ms=self._clock.now_ms(), partitions=partitions)

    async def close(self) -> None:
        """Stop looking and close the connection."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._reader.close()

    async def _look(self) -> None:
        try:
            self._windows.add(await self._reader.read())
        except Exception as error:
            self.figures, self.away = [], str(error)
            for gauge in _GAUGES:
                gauge.clear()
            raise
        self.figures, self.away, self._looked_at = self._windows.figures(), "", self._clock.monotonic()
        self._show()

    def _show(self) -> None:
        for gauge in _GAUGES:
            gauge.clear()
        for each in self.figures:
            labels = (each.group, each.topic)
            GROUP_LAG_MESSAGES.labels(*labels).set(each.lag)
            GROUP_LOST_MESSAGES.labels(*labels).set(each.lost)
            GROUP_OFFSETS.labels(*labels).set(sum(partition.committed or 0 for partition in each.partitions))
            TOPIC_OFFSETS.labels(each.topic).set(sum(partition.end for partition in each.partitions))
            share = skew([partition.in_per_s for partition in each.partitions])
            if share is not None:
                GROUP_SKEW.labels(*labels).set(share)
            for state in State:
                GROUP_STATE.labels(*labels, state.value).set(state is each.state)
            if not each.lag:
                GROUP_LAG_SECONDS.labels(*labels).set(0)
            if each.oldest_ms is not None:
                self._show_ages(each)

    def _show_ages(self, each: TopicFigures) -> None:
        """Have ages counted when they are asked for, so that they are right between two looks."""
        now_ms = self._clock.now_ms
        labels = (each.group, each.topic)
        GROUP_LAG_SECONDS.labels(*labels).set_function(lambda: lag_seconds(each.lag, each.oldest_ms, now_ms=now_ms()) or 0.0)
        GROUP_RETENTION_LEFT_SECONDS.labels(*labels).set_function(
            lambda: retention_left_seconds(each.oldest_ms, each.retention_ms, now_ms=now_ms()) or 0.0
        )
