"""A log in memory with the stage over it: several partitions, crashes between any two effects, reruns from what was committed."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.config_tables import ConfigTables
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from schemas.channels import CHANNELS
from schemas.codec import decode
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.ids import key_hash
from streams.agents.base import Reply, Turn
from streams.decisions import Configured
from streams.raw_to_outbound import RawToOutbound
from streams.rows import ConversationRow

PARTITIONS = 3


class CrashError(BaseException):
    """The worker was killed here: nothing that runs in it can catch that."""


@dataclass
class FakeClock:
    """A clock that stands still until it is moved."""

    ms: int = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


@dataclass
class Log:
    """Topics, rows and a stage; `crash_share` of all effects kill the worker, before or after they are durable."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))  # no secret
    crash_share: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)
    topics: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=lambda: defaultdict(list))
    raw: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    committed: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    rows: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    asked: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the stage over this."""
        self.stage = RawToOutbound(
            table=self,
            producer=self,
            config=ConfigTables(Settings()),
            answer=self._answer,
            clock=self.clock,
            default_kind="offline",
            patience=Patience(),
        )

    async def _answer(self, _: Configured, turn: Turn) -> Reply:
        self.asked.append(turn)
        return Reply(text=f"re: {turn.text}", model="test")

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.rows.get((partition, key))

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        with self._perilous():
            if value is None:
                self.rows.pop((partition, key), None)
            else:
                self.rows[partition, key] = value

    def produce(self, topic: str, *, key: bytes, value: bytes, headers: Any = None) -> "asyncio.Future[int]":
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            with self._perilous():
                if topic == "raw":
                    self._append(key, value, headers or [])
                else:
                    self.topics[topic].append((key, value))
            future.set_result(0)
        except CrashError as error:
            future.set_exception(error)
        return future

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Any = None) -> int:
        return await self.produce(topic, key=key, value=value, headers=headers)

    def _perilous(self) -> "_Perilous":
        return _Perilous(self)

    def _append(self, key: bytes, value: bytes, headers: Any) -> None:
        number = key_hash(key) % PARTITIONS
        records = self.raw[number]
        at_ms = self.clock.now_ms()
        records.append(
            Record(topic="raw", partition=number, offset=len(records), key=key, value=value, headers=list(headers), timestamp_ms=at_ms)
        )

    def post(self, body: bytes, *, ingress_ahead_ms: int = 0) -> None:
        """Store a webhook body as the ingress does, whose clock may be ahead."""
        for part in CHANNELS["whatsapp"].split(body, received_at_ms=self.clock.now_ms() + ingress_ahead_ms):
            self._append(part.key.encode(), part.value, [])

    async def step(self, key: str = "") -> bool:
        """Handle one record of any partition that has one, or of this key's, or crash over it; False when all are done."""
        among = range(PARTITIONS) if not key else [key_hash(key.encode()) % PARTITIONS]
        waiting = [number for number in among if self.committed[number] < len(self.raw[number])]
        if not waiting:
            return False
        number = self.chance.choice(waiting)
        at = self.committed[number]
        try:
            await self.stage.handle(self.raw[number][at], lambda: True)
        except CrashError:
            # The log may have forgotten the newest commits, not what it acknowledged.
            self.committed[number] = max(0, at - self.chance.randrange(3))
        else:
            self.committed[number] = at + 1
        return True

    async def drain(self) -> None:
        """Handle everything."""
        while await self.step():
            pass

    def inbound(self) -> Iterator[InboundEvent]:
        """Yield the decided items, the first record of each id."""
        known: set[str] = set()
        for event in self._of("inbound"):
            if isinstance(event, InboundEvent) and event.id not in known:
                known.add(event.id)
                yield event

    def remembered(self) -> list[str]:
        """Return what users said, as the rows remember it."""
        rows = [decode(row, ConversationRow) for (_, key), row in self.rows.items() if b"\x00" not in key]
        return [turn.text for row in rows for turn in row.turns if turn.role == "user"]

    def links(self) -> dict[str, LinkedEvent]:
        """Return where each alias leads by now."""
        return {event.alias: event for event in self._of("inbound") if isinstance(event, LinkedEvent)}

    def sends(self) -> list[OutboundEvent]:
        """Return the sends, the first record of each id."""
        return list({event.id: event for event in reversed([decode(v, OutboundEvent) for _, v in self.topics["outbound-high"]])}.values())

    def _of(self, topic: str) -> list[Any]:
        either: Any = InboundEvent | LinkedEvent
        return [decode(value, either) for _, value in self.topics[topic]]


class _Perilous:
    """An effect that the worker may not outlive, or that outlives the worker."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __enter__(self) -> None:
        self._maybe_crash()

    def __exit__(self, *_: object) -> None:
        if _[0] is None:
            self._maybe_crash()

    def _maybe_crash(self) -> None:
        if self._log.chance.random() < self._log.crash_share:
            raise CrashError
