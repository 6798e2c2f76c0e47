"""Where the groups stand is told soon, whatever Kafka does."""

import asyncio
from typing import Any

import pytest

from infra.retries import AwayError
from ingress.pages import lag_rows as module
from ingress.pages.lag_rows import lag_rows


class Lag:
    """A watcher whose look takes for ever, or fails."""

    def __init__(self, *, away: str = "", error: str = "") -> None:
        self.away, self._error = away, error

    async def rows(self, *, partitions: bool = False) -> list[dict[str, Any]]:
        assert partitions
        if self._error:
            raise AwayError(self._error)
        await asyncio.Event().wait()
        return []

    def rows_seen(self, *, partitions: bool = False) -> list[dict[str, Any]]:
        assert partitions
        return [] if self.away else [{"group": "streams"}]


async def test_a_look_that_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the last look's rows are told; where that failed, why; and an error as it is."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    waiting: Any = Lag()
    assert await lag_rows(waiting, partitions=True) == ([{"group": "streams"}], "")
    gone: Any = Lag(away="Kafka does not answer")
    assert await lag_rows(gone, partitions=True) == ([], "Kafka does not answer")
    failing: Any = Lag(error="no answer in 5 s")
    assert await lag_rows(failing, partitions=True) == ([], "no answer in 5 s")
