"""Hosts the real stage over the log as it was: lanes on aiokafka, rows in a file, the clock of then, every effect fenced."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from infra.config_tables import ConfigTables
from infra.kafka.bounded import BoundedReader, Stretch
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from schemas.codec import DecodeError, decode
from schemas.events.canary import is_canary
from schemas.events.config import DEFAULT_TENANT, Account
from schemas.events.config import Agent as AgentConfig
from schemas.events.inbound import RecordPosition
from streams.agents.registry import Agents
from streams.raw_to_outbound import Answer, RawToOutbound
from streams.replay.answers import OtherAgent, RecordedAnswers
from streams.replay.fence import FencedWriter, record_id
from streams.replay.moment import Moment, RecordedClock, enter
from streams.replay.plan import Plan
from streams.replay.recorded import Wanted, is_within, load_recorded
from streams.replay.store import Store

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many records of it are done, and how many there are."""

_INSIDE_MAX = 2_000
_COMMIT_S = 0.5
_MS = 1_000


class OneAgentTables(ConfigTables):
    """What is applied now, with one agent in the place of all others where one is given."""

    def __init__(self, settings: Settings, agent: AgentConfig | None) -> None:
        super().__init__(settings)
        self._agent = agent

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Read what is applied."""
        await super().start(timeout_s=timeout_s)
        if self._agent is not None:
            self.agents[self._agent.id] = self._agent

    def account_by_phone_number_id(self, phone_number_id: str) -> Account | None:
        """Return the account of a number, answered by the one agent."""
        account = super().account_by_phone_number_id(phone_number_id)
        if self._agent is None:
            return account
        known = account or Account(id=DEFAULT_TENANT, phone_number_id=phone_number_id)
        return msgspec.structs.replace(known, agent=self._agent.id)


class _Origin(msgspec.Struct):
    """The one field of a record of [raw] that was keyed again."""

    origin: RecordPosition | None = None


async def decide_again(
    settings: Settings, plan: Plan, store: Store, reader: BoundedReader, *, progress: Progress, stopping: asyncio.Event
) -> bool:
    """Put what was decided, and what would be, into the store; return whether all was read (False: `stopping` was set).

    Raises OttlaError when a server is away or the agent cannot be built.
    """
    config = OneAgentTables(settings, plan.agent)
    await config.start()
    await config.stop()
    agents = Agents(settings)
    wanted = conversations_wanted(plan, config)
    writing = asyncio.create_task(_commit_often(store), name="commit")
    try:
        recorded: Answer = RecordedAnswers(store).answer
        answer = recorded if plan.agent is None else OtherAgent(await agents.get(plan.agent), store).answer
        loading = asyncio.create_task(load_recorded(reader, plan, store, wanted, _counter("reading what was", plan.recorded, progress)))
        stops = asyncio.create_task(_set(stopping))
        await asyncio.wait({loading, stops}, return_when=asyncio.FIRST_COMPLETED)
        stops.cancel()
        if not loading.done():
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            return False
        loading.result()
        stage = RawToOutbound(
            table=store,
            producer=FencedWriter(store),
            config=config,
            answer=answer,
            clock=RecordedClock(),
            default_kind="openai" if settings.ai_url else "offline",
            patience=Patience(tries=1),
        )
        replayed = Replayed(stage, store, plan, wanted)
        return await reader.run(
            plan.stretches(),
            replayed.handle,
            limit=_INSIDE_MAX,
            due=Pace(plan).due if plan.speed else None,
            advanced=_counter("deciding again", plan.stretches(), progress),
            stopping=stopping,
        )
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        store.commit()
        await agents.close()


class Replayed:
    """Hands records of [raw] to the stage at the moment that they had then."""

    def __init__(self, stage: RawToOutbound, store: Store, plan: Plan, wanted: Wanted) -> None:
        self._stage = stage
        self._store = store
        self._bounds = plan.bounds()
        self._wanted = wanted

    async def handle(self, records: Sequence[Record]) -> None:
        """Deal with records of one conversation."""
        for record in records:
            if self._wanted(record.key):
                await self._handle(record)

    async def _handle(self, record: Record) -> None:
        origin = _origin(record)
        partition, offset = (record.partition, record.offset) if origin is None else (origin.partition, origin.offset)
        is_compared = is_within(self._bounds, partition, offset)
        decided = self._store.was_decided_at(partition, offset) if is_compared else ()
        now_ms = max((each.decided_at for each in decided), default=record.timestamp_ms)
        enter(Moment(now_ms=now_ms, partition=partition, offset=offset, is_compared=is_compared))
        if origin is not None and is_compared:
            self._store.note_routed(record_id(record.headers), made=False, partition=partition, offset=offset)
        await self._stage.handle(record, _owned)


class Pace:
    """Says when records are due: what builds state at once, the rest as far apart as they were stored, divided by the speed."""

    def __init__(self, plan: Plan) -> None:
        self._bounds = plan.bounds()
        self._speed = plan.speed
        self._began: tuple[float, int] | None = None

    def due(self, record: Record) -> float:
        """Return when (time.monotonic) a record is due."""
        if record.offset < self._bounds[record.partition].first:
            return 0.0
        if self._began is None:
            self._began = time.monotonic(), record.timestamp_ms
        began, first_ms = self._began
        return began + (record.timestamp_ms - first_ms) / _MS / self._speed


def conversations_wanted(plan: Plan, config: ConfigTables) -> Wanted:
    """Return what tells by a record's key whether it is replayed; a conversation is named by its key or by its contact alone."""
    name = plan.conversation.encode()

    def wanted(key: bytes) -> bool:
        if is_canary(key):
            return False
        if name and key != name and (b":" in name or not key.endswith(b":" + name)):
            return False
        return not plan.tenant or config.tenant_of(key) == plan.tenant

    return wanted


def _origin(record: Record) -> RecordPosition | None:
    try:
        return decode(record.value, _Origin).origin
    except DecodeError:
        return None


def _owned() -> bool:
    return True


def _counter(what: str, stretches: Sequence[Stretch], progress: Progress) -> Callable[[int], None]:
    total = sum(each.length for each in stretches)
    done = 0

    def advanced(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    progress(what, 0, total)
    return advanced


async def _commit_often(store: Store) -> None:
    while True:
        await asyncio.sleep(_COMMIT_S)
        store.commit()


async def _set(event: asyncio.Event) -> None:
    await event.wait()
