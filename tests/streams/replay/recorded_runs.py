"""A run of the stage in memory, with crashes, and its replay: no servers, so that many of them can be tried."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infra.config_tables import ConfigTables
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from schemas.codec import encode
from schemas.events.config import Agent
from schemas.events.dead_letter import redrive_headers
from schemas.events.inbound import InboundEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.ids import key_hash
from streams.agents.base import AgentError, Reply, Turn
from streams.decisions import Configured
from streams.raw_to_outbound import Answer, RawToOutbound
from streams.replay.answers import RecordedAnswers
from streams.replay.compare import Compared
from streams.replay.comparison import write_comparison
from streams.replay.fence import FencedWriter
from streams.replay.folder import Folder
from streams.replay.host import Replayed
from streams.replay.moment import RecordedClock
from streams.replay.plan import Bounds, Plan
from streams.replay.recorded import note_recorded
from streams.replay.store import Store
from streams.replay.summary import Summary
from tests.streams.memory import PARTITIONS, Log


@dataclass
class Run(Log):
    """A log whose agent never says the same twice, and fails for texts that hold the word poison with a chance of `failing`."""

    said: int = 0
    failing: float = 0.5

    async def _answer(self, whose: Configured, turn: Turn) -> Reply:
        self.said += 1
        if "poison" in turn.text and self.chance.random() < self.failing:
            raise AgentError("model-failed", retryable=True)
        await super()._answer(whose, turn)
        return Reply(text=f"answer {self.said} to {turn.text}", model="test")

    def redrive(self, item: InboundEvent) -> None:
        """Put the record of an item back, as a redrive of its dead letter does."""
        origin = self.raw[item.raw.partition][item.raw.offset]
        headers = redrive_headers("0" * 32, item.id, time_ms=self.clock.ms)
        self._append(origin.key, origin.value, headers)

    def recorded(self) -> list[Record]:
        """Return what streams and the sender wrote, in the log's order."""
        found = [
            Record(topic, key_hash(key) % PARTITIONS, offset, key, value, [], 0)
            for topic, records in self.topics.items()
            if topic in {"inbound", "outbound-high"}
            for offset, (key, value) in enumerate(records)
        ]
        sent = [_sent(event) for event in self.sends()]
        return found + [Record("sent", 0, offset, event.conversation.encode(), encode(event), [], 0) for offset, event in enumerate(sent)]


def _sent(event: OutboundEvent) -> SentEvent:
    return SentEvent(
        id=event.id,
        conversation=event.conversation,
        tenant=event.tenant,
        channel=event.channel,
        account=event.account,
        outcome="accepted",
        message=event.message,
        at=event.created_at,
        created_at=event.created_at,
        attempts=1,
        agent=event.agent,
    )


@dataclass
class Again:
    """A replay of a run; `answer` is given the store and returns who answers, `keep` which records of the run's topics are known."""

    run: Run
    path: Path
    answer: Callable[[Store], Answer] = lambda store: RecordedAnswers(store).answer
    keep: Callable[[Record], bool] = lambda _: True
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    first: int = 0
    agent: Agent | None = None

    def plan(self) -> Plan:
        ends = self.ends or [len(records) for records in self.run.raw]
        starts = self.starts or [0] * len(ends)
        raw = [
            Bounds(partition=number, start=start, first=min(max(start, self.first), end), last=end, end=end)
            for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        return Plan(id="test", made_at=0, from_ms=0, to_ms=1, raw=raw, recorded=[], agent=self.agent)

    async def decide(self, store: Store) -> None:
        plan = self.plan()
        for record in self.run.recorded():
            if self.keep(record):
                note_recorded(record, store, plan.bounds())
        stage = RawToOutbound(
            table=store,
            producer=FencedWriter(store),
            config=ConfigTables(Settings(_env_file=None)),
            answer=self.answer(store),
            clock=RecordedClock(),
            default_kind="offline",
            patience=Patience(tries=1),
        )
        replayed = Replayed(stage, store, plan, lambda _: True)
        for stretch in plan.stretches():
            for record in self.run.raw[stretch.partition][stretch.start : stretch.end]:
                await replayed.handle([record])

    async def compared(self) -> tuple[Summary, list[Compared]]:
        """Return what came of it."""
        store = Store(self.path / "work.sqlite")
        folder = Folder(self.path)
        try:
            await self.decide(store)
            summary = write_comparison(store, self.plan(), folder.comparison)
        finally:
            store.close(remove=True)
        return summary, list(folder.compared())
