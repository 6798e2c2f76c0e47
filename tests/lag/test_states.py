"""infra.lag.watcher on a real broker: each state provoked as it comes about, named in the rows and in the metrics. Time is a test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from infra.kafka.admin import create_topics
from infra.kafka.consumer import LaneConsumer
from infra.kafka.questions import Commit
from infra.kafka.record import Record
from infra.lag.figures import summary
from infra.lag.watcher import LagWatcher
from infra.lag.windows import INTERVAL_S, WINDOW
from infra.metrics import GROUP_LAG_MESSAGES
from infra.retries import AwayError
from infra.settings import Settings
from schemas.topics import DEAD_LETTERS
from tests.cli.test_groups import set_commits
from tests.lag.test_reader import stamp_by_producers, write

GROUP = TOPIC = DEAD_LETTERS.name
BEGUN_MS = int(time.time() * 1000) - 3_600_000  # the broker takes no records of the future
STATES = ("OK", "WARN", "STOP", "STALL", "REWIND")


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_ms(self) -> int:
        return BEGUN_MS + int(self.passed_s * 1000)

    def monotonic(self) -> float:
        return 1_000 + self.passed_s


class Watched:
    """A watcher whose intervals pass as fast as it can look."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.hands = Hands()
        self.watcher = LagWatcher(settings, timeout_s=30, clock=self.hands)
        self.offset = self.end = 0

    async def pass_(self, *, written: int = 0, done: int = 0, looks: int = 1) -> None:
        """Let intervals pass; in each, records are written and the offset moves on (or back) by as many as are done."""
        for _ in range(looks):
            if written:
                await asyncio.to_thread(write, self._settings, TOPIC, 0, [self.hands.now_ms()] * written)
                self.end += written
            if done:
                self.offset += done
                await set_commits(self._settings, GROUP, TOPIC, {0: Commit(self.offset, "")})
            self.hands.passed_s += INTERVAL_S
            await self.watcher.look()

    def state(self) -> str:
        """Return the state that is shown, which is the same everywhere."""
        (row,) = [row for row in self.watcher.rows_seen() if row["group"] == GROUP]
        shown = {state: REGISTRY.get_sample_value("ottla_consumer_group_state", _labels(state=state)) for state in STATES}
        assert shown == {state: float(state == row["state"]) for state in STATES}
        assert REGISTRY.get_sample_value("ottla_consumer_lag_messages", _labels()) == row["lag_messages"] == self.end - self.offset
        assert REGISTRY.get_sample_value("ottla_consumer_lag_seconds", _labels()) == row["lag_seconds"]
        assert summary([row]) == [{name: row[name] for name in ("group", "state", "lag_messages", "lag_seconds")}]
        return str(row["state"])


def _labels(**more: str) -> dict[str, str]:
    return {"group": GROUP, "topic": TOPIC, **more}


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[Watched]:
    """Yield a watcher over topics whose records are as old as a test says."""
    await create_topics(settings)
    await stamp_by_producers(settings, TOPIC)
    made = Watched(settings)
    try:
        yield made
    finally:
        await made.watcher.close()


@pytest.mark.servers
async def test_each_state_comes_about(settings: Settings) -> None:
    """A group that gets on, falls behind, stops, is set back, catches up; and one that lives and hangs."""
    async with watched(settings) as group:
        await group.pass_(written=2, done=1, looks=WINDOW - 1)
        assert group.state() == "OK"  # the window is not full yet
        await group.pass_(written=2, done=1, looks=2)
        assert group.state() == "WARN"
        await group.pass_(looks=WINDOW // 2)
        assert group.state() == "STOP"
        await group.pass_(done=-5)
        assert group.state() == "REWIND"
        await group.pass_(done=group.end - group.offset)
        assert group.state() == "OK"
        (row,) = [row for row in group.watcher.rows_seen() if row["group"] == GROUP]
        assert (row["lag_messages"], row["lag_seconds"], row["oldest_unprocessed_at"]) == (0, 0.0, None)

        hung = asyncio.Event()

        async def hang(_: Sequence[Record]) -> None:
            await hung.wait()

        member = LaneConsumer(settings, group=GROUP, topics=[DEAD_LETTERS], handle=hang, on_fatal=lambda _: None)
        await member.start()
        try:
            await asyncio.wait_for(member.ready.wait(), 60)
            await group.pass_(written=1)
            assert group.state() == "OK"
            written_ms = group.hands.now_ms() - int(INTERVAL_S * 1000)
            await group.pass_(looks=WINDOW)
            assert group.state() == "STALL"
            (row,) = [row for row in group.watcher.rows_seen() if row["group"] == GROUP]
            assert (row["oldest_unprocessed_at"], row["lag_seconds"]) == (written_ms, (WINDOW + 1) * INTERVAL_S)
        finally:
            hung.set()
            await member.stop(1)


async def test_a_broker_that_is_away_leaves_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is absent, and why is told; the next look may know it again; an error nobody foresaw ends nothing."""
    watcher = LagWatcher(Settings(kafka="127.0.0.1:1", _env_file=None), timeout_s=0.2)
    try:
        GROUP_LAG_MESSAGES.labels(GROUP, TOPIC).set(5)  # as it was seen before
        with pytest.raises(AwayError):
            await watcher.look()
        assert "127.0.0.1:1" in watcher.away
        assert watcher.rows_seen() == []
        assert REGISTRY.get_sample_value("ottla_consumer_lag_messages", _labels()) is None
        looks, enough = 0, asyncio.Event()

        async def broken() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            raise ZeroDivisionError

        monkeypatch.setattr(watcher, "look", broken)
        monkeypatch.setattr("infra.lag.watcher.INTERVAL_S", 0.0)
        running = asyncio.create_task(watcher.run())
        await asyncio.wait_for(enough.wait(), 60)
        running.cancel()
    finally:
        await watcher.close()
