"""Runs sinks: finds them, hosts each in a consumer group of its own, retries what failed and dead-letters what cannot succeed."""

import asyncio
import importlib
import pkgutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

import sinks
from infra.canaries import pass_on
from infra.clock import SystemClock
from infra.closing import run_until
from infra.config_tables import ConfigTables
from infra.errors import UsageError
from infra.fault_points import point
from infra.kafka.commits import LostPartitionError
from infra.kafka.consumer import ApartError, LaneConsumer, Taken
from infra.kafka.dead_letters import write_dead_letter
from infra.kafka.producer import ProduceError, Producer
from infra.kafka.record import Record
from infra.metrics import EVENT_SECONDS, EVENTS, IN_FLIGHT, LEFT_IN_LOG
from infra.retries import Patience, with_retries
from infra.role_server import RoleServer
from infra.settings import Settings
from infra.tracing import consumed, is_tracing
from schemas.codec import DecodeError
from schemas.events.canary import is_canary
from schemas.events.dead_letter import DeadLetter, read_redrive
from sinks.base import Context, Sink

_DRAIN_S = 3.0
_DELIVERY_S = 300.0
# Nobody waits for what a sink writes but the next message of that conversation, which takes longer to come.
_LINGER_MS = 5.0

Build = Callable[[Context], Sink]


def sinks_by_name() -> dict[str, Build]:
    """Return the builders of all sinks: the modules of this package that define NAME and build."""
    found: dict[str, Build] = {}
    for info in pkgutil.iter_modules(sinks.__path__):
        module = importlib.import_module(f"sinks.{info.name}")
        if hasattr(module, "NAME") and hasattr(module, "build"):
            found[module.NAME] = module.build
    return found


class SinkHost:
    """One sink in its consumer group."""

    def __init__(self, sink: Sink, context: Context, *, on_fatal: Callable[[BaseException], None], patience: Patience) -> None:
        self._sink = sink
        self._context = context
        self._patience = patience
        self._starting: asyncio.Task[None] | None = None
        self._consumer = LaneConsumer(
            context.settings,
            group=sink.group,
            topics=sink.topics,
            handle=self._handle,
            handle_apart=self._handle_apart,
            on_fatal=on_fatal,
            batch_max=sink.batch_max,
            taken=self._take,
            lane=sink.lane,
            held_max=sink.held_max,
            at_once=self._take_at_once,
            left_in_log=sink.left_in_log,
            unhurried=sink.unhurried,
        )
        sink.hosted(self._consumer)
        EVENTS.labels(sink.group, "dead-letter")
        self._handled = EVENTS.labels(sink.group, "handled")
        self._took = EVENT_SECONDS.labels(sink.group)

    async def start(self) -> None:
        """Start the sink and join its group meanwhile; nothing is handled before both are done."""
        self._starting = asyncio.create_task(self._sink.start(), name=f"start {self._sink.group}")
        try:
            await self._consumer.start()
        except BaseException:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
            raise
        await self._starting
        IN_FLIGHT.labels(self._sink.group).set_function(lambda: self._consumer.in_flight)
        LEFT_IN_LOG.labels(self._sink.group).set_function(lambda: self._consumer.left_in_log)

    async def stop(self) -> None:
        """Finish what is under way, then stop."""
        await self._consumer.stop(_DRAIN_S)
        await self._sink.stop()

    async def _take(self, partitions: Sequence[Taken]) -> None:
        if self._starting is not None:
            await asyncio.shield(self._starting)
        await self._sink.taken(partitions)

    @property
    def ready(self) -> bool:
        """Whether partitions were assigned."""
        return self._consumer.ready.is_set()

    def _take_at_once(self, record: Record) -> bool:
        """Show the sink a record on its way to a lane; what it does not take, or stumbles over, goes there."""
        if is_tracing():
            return False  # its span is made where the lanes are
        try:
            if not self._sink.take_at_once(record):
                return False
        except Exception:  # noqa: BLE001  # it happens again in the lane, and there everything is seen to
            return False
        self._handled.inc()
        return True

    async def _handle(self, records: Sequence[Record]) -> None:
        """Hand a lane's records to the sink; when they fail together, one by one, so that one bad record takes no sibling along.

        In a lane that conversations share, a bad one must hold up its own conversation alone: there all go on apart (ApartError).
        """
        if is_canary(records[0].key):  # what shares a lane has one key, or none of them is a message
            await self._pass_on(records)
            return
        # Several at once are tried once: which of them is the bad one shows when they are taken singly.
        tries = 1 if len(records) > 1 or self._sink.shares_lanes else self._patience.tries
        error = await self._failure(records, tries=tries)
        if error is None:
            return
        if len(records) == 1 and (isinstance(error, DecodeError) or not self._sink.shares_lanes):
            await self._dead_letter(records[0], error)
        elif self._sink.shares_lanes:
            raise ApartError from error
        else:
            await self._handle_apart(records)

    async def _handle_apart(self, records: Sequence[Record]) -> None:
        """Hand records of one conversation to the sink one by one, with all patience; what fails then becomes a dead letter."""
        for record in records:
            error = await self._failure([record], tries=self._patience.tries)
            if error is not None:
                await self._dead_letter(record, error)

    async def _failure(self, records: Sequence[Record], *, tries: int) -> Exception | None:
        """Hand records to the sink; return why they failed, None if they did not."""
        started = time.perf_counter()
        try:
            with consumed(records, group=self._sink.group):
                await self._try(records, tries=tries)
        except (ProduceError, LostPartitionError):
            raise  # the log does not take our outcome, or the record is somebody else's: stop before anything is done twice
        except Exception as error:  # noqa: BLE001  # whatever a sink raises: the event is kept with its cause, the others go on
            return error
        self._took.observe(time.perf_counter() - started)
        self._handled.inc(len(records))
        return None

    async def _pass_on(self, records: Sequence[Record]) -> None:
        for record in records:
            await pass_on(record, stage=self._sink.group, producer=self._context.producer, clock=self._context.clock)

    async def _try(self, records: Sequence[Record], *, tries: int) -> None:
        first = records[0]
        what = f"{self._sink.group} {first.topic}/{first.partition}/{first.offset}"
        await with_retries(
            lambda: self._sink.handle(records),
            patience=replace(self._patience, tries=tries),
            what=what,
            stage=self._sink.group,
            final=(DecodeError, ProduceError, LostPartitionError),
        )

    async def _dead_letter(self, record: Record, error: Exception) -> None:
        """Write a dead letter and wait for it; DeadLetterError, which stops the process, if it cannot be written."""
        undecodable = isinstance(error, DecodeError)
        redrive = read_redrive(record.headers)
        letter = DeadLetter(
            stage=self._sink.group,
            cause="undecodable" if undecodable else type(error).__name__,
            error=str(error),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            attempts=1 if undecodable else self._patience.tries,
            at=self._context.clock.now_ms(),
            stack="".join(traceback.format_exception(error)),
            tenant=self._context.config.tenant_of(record.key),
            redrive_of=redrive.letter if redrive is not None else "",
        )
        point("sinks.before_dead_letter")
        await write_dead_letter(self._context.producer, letter, key=record.key, value=record.value)
        point("sinks.dead_letter_written")
        EVENTS.labels(letter.stage, "dead-letter").inc()


async def run_sinks(settings: Settings, names: Sequence[str]) -> None:
    """Run the named sinks (all of them without a name) until SIGTERM; raises what stopped one of them."""
    builders = sinks_by_name()
    unknown = [name for name in names if name not in builders]
    if unknown:
        raise UsageError(f"there is no sink {unknown[0]!r}: choose from {', '.join(sorted(builders))}.")
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_fatal(error: BaseException) -> None:
        if not failed.done():
            failed.set_exception(error)

    def stop() -> None:
        if not failed.done():
            failed.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    producer = Producer(settings, client_id=f"{settings.worker}-sinks", delivery_timeout_s=_DELIVERY_S, linger_ms=_LINGER_MS)
    config = ConfigTables(settings)
    context = Context(settings=settings, producer=producer, config=config, clock=SystemClock())
    hosts = [SinkHost(builders[name](context), context, on_fatal=on_fatal, patience=Patience()) for name in (names or sorted(builders))]
    server = RoleServer(settings, ready=lambda: all(host.ready for host in hosts))
    await server.start()

    async def start() -> None:
        await producer.start()
        await config.start()
        await asyncio.gather(*(host.start() for host in hosts))

    try:
        await run_until(failed, start())
    finally:
        await asyncio.gather(*(host.stop() for host in hosts), return_exceptions=True)
        await config.stop()
        await producer.stop()
        await server.stop()
