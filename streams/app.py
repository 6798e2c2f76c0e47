"""The streams as a Faust application: `faust -A streams.app worker`, or `ottla run streams`.

This file builds the real things; every other module takes what it needs as a parameter.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import faust
import structlog

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.kafka.connection import tls_context
from infra.kafka.group_log import GroupLog
from infra.kafka.order_violations import OrderViolations
from infra.kafka.producer import Producer
from infra.log import configure_logging
from infra.metrics import AGENT_SECONDS, AGENT_TOKENS
from infra.retries import Patience
from infra.role_server import RoleServer
from infra.servers.address import resolve_servers
from infra.settings import Settings, load_settings
from infra.tracing import span, start_tracing
from schemas.groups import SESSION_S
from schemas.topics import CONVERSATIONS_CHANGELOG, RAW
from streams.agents.base import AgentError, Reply, Turn
from streams.agents.registry import Agents
from streams.canary_stage import WithCanaries
from streams.decisions import Configured, configured
from streams.faust_host import FaustHost
from streams.raw_consumer import RawConsumer
from streams.raw_source import RawSource
from streams.raw_to_outbound import RawToOutbound
from streams.table import STORE_OPTIONS, ConversationTable, NewestRowTable
from streams.table_restoring import Restorer, RestoringTables

log = structlog.get_logger()

_APP = "streams"
_TABLE = "conversations"
_DELIVERY_S = 300.0
# Model calls may take much longer: what has not ended is done again, and its ids make that harmless.
_DRAIN_S = 1.5


class Parts:
    """What the stage works with, kept apart from Faust's own attributes of the same names."""

    def __init__(self, settings: Settings, *, ready: Callable[[], bool]) -> None:
        self.default_kind = "openai" if settings.ai_url else "offline"
        # Records of one event go to different partitions: waiting for more of the same is time lost, and wakes a thread once more.
        self.producer = Producer(settings, client_id=f"{settings.worker}-{_APP}", delivery_timeout_s=_DELIVERY_S, linger_ms=0.0)
        self.config = ConfigTables(settings)
        self.agents = Agents(settings)
        self.log = GroupLog(settings, group=_APP)
        self.server = RoleServer(settings, ready=ready)

    async def start(self) -> None:
        """Start everything; OttlaError if a dependency is missing."""
        await self.server.start()
        await self.producer.start()
        await self.config.start()
        await self._build_default_agent()

    async def _build_default_agent(self) -> None:
        """Build the installation's own agent now rather than at the first message, and say here what is wrong with it."""
        agent = configured(None, self.config.agents, default_kind=self.default_kind).agent
        try:
            await self.agents.get(agent)
        except AgentError as error:
            log.warning("the default agent cannot be built: its conversations get the fallback text", error=str(error))

    async def stop(self) -> None:
        """Stop everything, in the opposite order."""
        await self.agents.close()
        await self.log.close()
        await self.config.stop()
        await self.producer.stop()
        await self.server.stop()

    async def answer(self, whose: Configured, turn: Turn) -> Reply:
        """Ask the agent of a conversation."""
        kind, outcome, started = whose.agent.kind, "error", time.perf_counter()
        try:
            with span("chat", kind="client", attributes={"gen_ai.operation.name": "chat", "ottla.agent": whose.agent.id}) as turning:
                agent = await self.agents.get(whose.agent)
                reply = await agent.answer(turn)
                turning.set("gen_ai.response.model", reply.model)
                turning.set("gen_ai.usage.input_tokens", reply.tokens_in)
                turning.set("gen_ai.usage.output_tokens", reply.tokens_out)
            outcome = "answered" if reply.known else "does-not-know"
        except AgentError as error:
            outcome = error.cause
            raise
        finally:
            AGENT_SECONDS.labels(kind, outcome).observe(time.perf_counter() - started)
        if reply.tokens_in or reply.tokens_out:
            AGENT_TOKENS.labels(kind, "in").inc(reply.tokens_in)
            AGENT_TOKENS.labels(kind, "out").inc(reply.tokens_out)
        return reply


class StreamsApp(faust.App):  # type: ignore[misc]  # Faust's types are not followed
    """The Faust application with what its stage needs, started before the first event and stopped after the last."""

    # Else its services' comings and goings are logged under our module's name.
    logger = logging.getLogger("faust.app")

    def __init__(self, settings: Settings) -> None:
        data = settings.home / "streams" / settings.worker
        data.mkdir(parents=True, exist_ok=True)
        super().__init__(
            settings.topic_prefix + _APP,
            broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
            broker_credentials=_credentials(settings),
            datadir=data,
            store="rocksdb://",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=settings.partitions,
            table_standby_replicas=0,
            # Static membership and short timeouts: a killed worker that comes back goes on within seconds instead of a minute.
            consumer_group_instance_id=f"{settings.worker}-{_APP}",
            # Faust's name for a member, which is in its assignment; by default that of the machine. A worker that comes back as the same
            # member in another container would get the assignment from before, not know itself in it, and stay out for good.
            canonical_url=f"http://{settings.worker}-{_APP}",
            broker_session_timeout=SESSION_S,
            broker_heartbeat_interval=1.0,
            broker_commit_interval=0.5,
            broker_max_poll_interval=86_400.0,
            broker_max_poll_records=1_000,
            stream_recovery_delay=0.0,
            TableManager=RestoringTables,
            # Waiting for events under way would outlive the rebalance; the host drops them and they are delivered again.
            stream_wait_empty=False,
            consumer_auto_offset_reset="earliest",
            worker_redirect_stdouts=False,
        )
        self.failed: asyncio.Future[None] | None = None
        self.recovered = False
        self._watching: asyncio.Task[None] | None = None
        self.parts = parts = Parts(settings, ready=lambda: self._is_settled)
        table = self.tables.add(
            NewestRowTable(
                self,
                name=_TABLE,
                key_type=bytes,
                value_type=bytes,
                partitions=settings.partitions,
                options=dict(STORE_OPTIONS),
            )
        )
        self._restorer = Restorer(settings, table)
        self._conversations = ConversationTable(table, parts.producer)
        self.source = RawSource(parts.log, lambda: self.consumer, settings=settings)
        stage = RawToOutbound(
            table=self._conversations,
            producer=parts.producer,
            config=parts.config,
            answer=parts.answer,
            clock=SystemClock(),
            default_kind=parts.default_kind,
            patience=Patience(),
        )
        self.host = FaustHost(
            WithCanaries(stage, producer=parts.producer, clock=SystemClock()),
            topic=RAW.name,
            source=self.source,
            generation=lambda: self.consumer_generation_id,
            on_fatal=self._on_fatal,
            name=_APP,
            violations=OrderViolations(_APP, settings.home / "order-violations" / settings.worker),
        )
        self.on_partitions_revoked.connect(self._revoked)
        self.on_rebalance_complete.connect(self._rebalanced)
        raw = self.topic(RAW.named(settings.topic_prefix), key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        self.agent(raw, name=_APP)(self._consume)

    async def restore(self, partitions: Collection[int]) -> None:
        """Bring the table up to the end of its changelog, and that in order where a paused worker has written late."""
        await self._restorer.restore(partitions)
        await self._conversations.write_outdone(partitions)

    def _new_consumer(self) -> Any:
        self.transport.Consumer = partial(RawConsumer, raw_topic=self.source.topic, take=self.host.take, commit=self.host.commit)
        return super()._new_consumer()

    async def _consume(self, stream: Any) -> None:
        """Subscribe, which is all that a stream is for here: what is fetched goes to the host in batches, past Faust's queues."""
        async for event in stream.noack().events():
            raise RuntimeError(f"a record went past the host: {event.message.tp}, offset {event.message.offset}")

    def _on_fatal(self, error: BaseException) -> None:
        log.error("the stage stopped", error=f"{type(error).__name__}: {error}")
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(error)
        else:
            self.add_future(self.crash(error))

    async def _revoked(self, *_: Any, **__: Any) -> None:
        await self.host.forget()

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        self.recovered = True

    async def on_start(self) -> None:
        """Start what the stage needs before Faust delivers its first event."""
        await self.parts.start()
        await super().on_start()
        self._watching = asyncio.create_task(self.host.watch(self._watched, self._unsettled), name="watch")

    @property
    def _is_settled(self) -> bool:
        return self.recovered and not self.rebalancing

    def _watched(self) -> list[int]:
        return self.source.owned() if self._is_settled else []

    def _unsettled(self) -> object:
        return None if self._is_settled else f"generation {self.consumer_generation_id}, {self._restorer.restored} rows restored"

    async def on_stop(self) -> None:
        """Finish what is under way, commit it, then let Faust stop."""
        if self._watching is not None:
            self._watching.cancel()
        if self._consumer is not None:
            self._consumer.leave()
        await self.host.drain(_DRAIN_S)
        if self._consumer is not None:
            await self.commit(None)
        await super().on_stop()
        await self.parts.stop()


def _credentials(settings: Settings) -> Any:
    """Return how Faust's clients log in and what they trust, None for plain connections."""
    context = tls_context(settings)
    if settings.kafka_user:
        password = settings.kafka_password.get_secret_value()
        return faust.SASLCredentials(username=settings.kafka_user, password=password, ssl_context=context, mechanism=settings.kafka_sasl)
    return faust.SSLCredentials(context) if context is not None else None


def create_app(settings: Settings) -> StreamsApp:
    """Return the application; its changelog must be the topic that our table of topics makes."""
    app = StreamsApp(settings)
    made = app.tables[_TABLE].changelog_topic_name
    expected = CONVERSATIONS_CHANGELOG.named(settings.topic_prefix)
    if made != expected:
        raise RuntimeError(f"Faust names the changelog {made}, the table of topics {expected}")
    return app


def __getattr__(name: str) -> StreamsApp:
    """Build `app` when the `faust` command asks for it: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    settings = load_settings()
    configure_logging(settings, role="streams")
    start_tracing(role="streams", worker=settings.worker)
    app = create_app(resolve_servers(settings))
    globals()["app"] = app
    return app
