"""The brokers as a producer sees them: who leads which partition, and one request to one of them; on aiokafka's client."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import BrokerResponseError, NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError as ConfluentError

import infra.kafka.corrections  # noqa: F401  # they are put right by importing it
from infra.kafka.connection import aiokafka_options
from infra.settings import Settings

log = structlog.get_logger()

AGAIN_S = 0.05
"""How long to wait before asking again what was not answered."""
AGAIN_MAX_S = 0.5

_CLOSE_S = 2.0
_LEADERS_S = 5.0
"""They are never told where the client is closed meanwhile; whoever needs a leader that is not known asks again."""
_LOST_S = 30.0
"""After so long without any answer the brokers are looked for by their first addresses again: they may all be others by now."""
_BROKERS_SHARE = 0.6
"""Of a request's time, that of the broker: of a partition whose replicas are slow it must still be able to say so, and what others did."""
_ALL_IN_SYNC = -1
_NO_TRANSACTION_MS = 2**31 - 1

Answer = dict[tuple[str, int], tuple[int, int]]
"""An error code (0: written) and the first offset, by topic and partition."""


class Brokers:
    """A connection to each broker that is asked something, in the event loop of `keep_connected`. Topics have their full names.

    What is asked raises whatever went wrong, mostly a KafkaError: all of it means that there is no answer.
    """

    def __init__(self, settings: Settings, *, client_id: str, request_timeout_s: float) -> None:
        self._broker_ms = int(request_timeout_s * _BROKERS_SHARE * 1000)
        self._options = aiokafka_options(settings) | {"client_id": client_id, "request_timeout_ms": int(request_timeout_s * 1000)}
        self._client: AIOKafkaClient | None = None
        self._followed: set[str] = set()
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._answered_at = 0.0
        self.last_error = ""
        """What the last failure was; empty after a success."""

    async def keep_connected(self, connected: Callable[[], None]) -> None:
        """Reach one of the brokers, however long it takes, and again when none has answered for long; runs until cancelled."""
        while True:
            self._client = await self._reached()
            self._answered_at = asyncio.get_running_loop().time()
            if self._followed:
                await at_most(_LEADERS_S, self._client.set_topics(self._followed))
            self._lost.clear()
            self._connected.set()
            connected()
            await self._lost.wait()
            self._connected.clear()
            client, self._client = self._client, None
            await _close(client)

    async def _reached(self) -> AIOKafkaClient:
        pause = AGAIN_S
        while True:
            client = AIOKafkaClient(**self._options)
            asking = asyncio.create_task(client.bootstrap())
            try:
                await asyncio.shield(asking)
                if client.cluster.brokers():
                    return client
                self.failed(NodeNotReadyError("no broker is known yet"))  # the one that answered was just away
            except asyncio.CancelledError:  # a connection that is just being made would be forgotten, and stay open
                await asyncio.wait([asking], timeout=_CLOSE_S)
                asking.cancel()
                await _close(client)
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, the only thing to do is to try again
                self.failed(error)
            await _close(client)
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_MAX_S)

    async def close(self) -> None:
        """Close the connections; nobody waits long for a broker that takes no notice."""
        if self._client is not None:
            await _close(self._client)

    @property
    def ids(self) -> Collection[int]:
        """The ids of all brokers; empty while none was reached."""
        return [broker.nodeId for broker in self._client.cluster.brokers()] if self._client is not None else ()

    def leader(self, topic: str, number: int) -> int | None:
        """Return the id of the broker that leads a partition; None while nobody is known to, which is then asked for."""
        if self._client is None:
            return None
        node_id: int | None = self._client.cluster.leader_for_partition(TopicPartition(topic, number))
        if node_id is None or node_id < 0:
            self.leaders_changed()
            return None
        return node_id

    def leaders_changed(self) -> None:
        """Ask again who leads what, without waiting for it."""
        if self._client is not None:
            self._client.force_metadata_update()

    async def learn_leaders(self, topic: str) -> None:
        """Find out who leads the partitions of a topic, and follow it from now on."""
        self._followed.add(topic)
        if self._client is not None:
            await at_most(_LEADERS_S, self._client.add_topic(topic))

    async def partitions(self, topic: str) -> int:
        """Ask how many partitions a topic has, once a broker was reached; 0: there is no such topic."""
        answer = await self._ask(MetadataRequest([topic], allow_auto_topic_creation=False))
        if not answer.brokers:
            raise NodeNotReadyError("no broker is known yet")
        for code, name, *_, partitions in answer.topics:
            if name == topic and code != UnknownTopicOrPartitionError.errno:
                if code:
                    raise for_code(code)
                return len(partitions)
        return 0

    async def new_producer_id(self) -> int:
        """Ask for an id under which batches are numbered."""
        answer = await self._ask(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_NO_TRANSACTION_MS))
        if answer.error_code:
            raise for_code(answer.error_code)
        return int(answer.producer_id)

    async def produce(self, node_id: int, batches: Sequence[tuple[str, int, bytearray]]) -> Answer:
        """Have a broker write batches of partitions that it leads."""
        if self._client is None:
            raise NodeNotReadyError("no broker is known yet")
        topics: dict[str, list[tuple[int, bytearray]]] = {}
        for topic, number, data in batches:
            topics.setdefault(topic, []).append((number, data))
        answer = await self._client.send(
            node_id,
            ProduceRequest(transactional_id=None, required_acks=_ALL_IN_SYNC, timeout=self._broker_ms, topics=list(topics.items())),
        )
        self._answered_at = asyncio.get_running_loop().time()
        return {(topic, number): (code, offset) for topic, numbers in answer.topics for number, code, offset, *_ in numbers}

    async def reach(self, node_id: int) -> None:
        """Connect to a broker; NodeNotReadyError if that is not possible: nothing of what was to be sent has left."""
        if self._client is None or not await self._client.ready(node_id):
            raise NodeNotReadyError(f"broker {node_id} cannot be reached")

    def failed(self, error: Exception) -> None:
        """Keep what went wrong, and say it in the log unless it is the same as before."""
        said = _sentence(error)
        if said != self.last_error:
            log.warning("Kafka does not take records", error=said)
        self.last_error = said
        if self._client is not None and asyncio.get_running_loop().time() - self._answered_at > _LOST_S:
            self._lost.set()

    async def _ask(self, request: Any) -> Any:
        await self._connected.wait()
        node_id = self._client.get_random_node() if self._client is not None else None
        if self._client is None or node_id is None:
            self.leaders_changed()
            raise NodeNotReadyError("no broker is known yet")
        answer = await self._client.send(node_id, request)
        self._answered_at = asyncio.get_running_loop().time()
        return answer


async def at_most(seconds: float, work: Awaitable[object]) -> None:
    """Wait for something for so long, and go on without it if it takes longer."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)


async def _close(client: AIOKafkaClient) -> None:
    with contextlib.suppress(Exception):  # what ended its tasks before is nobody's concern any more
        await asyncio.wait_for(client.close(), _CLOSE_S)


def _sentence(error: Exception) -> str:
    if isinstance(error, BrokerResponseError):
        return str(ConfluentError(error.errno).str())  # librdkafka has words for what aiokafka has names for
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}" if text else name
