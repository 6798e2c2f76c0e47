"""The brokers as a producer sees them: who leads which partition, and one request to one of them; on aiokafka's client."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import BrokerResponseError, KafkaError, NodeNotReadyError, for_code
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

_ALL_IN_SYNC = -1
_NO_TRANSACTION_MS = 2**31 - 1

Answer = dict[tuple[str, int], tuple[int, int]]
"""An error code (0: written) and the first offset, by topic and partition."""


def is_unanswered(error: Exception) -> bool:
    """Tell whether an error says that nobody answered, rather than what the answer was."""
    return isinstance(error, KafkaError | OSError | TimeoutError)


class Brokers:
    """A connection to each broker that is asked something, in the event loop in which `connect` runs. Topics have their full names."""

    def __init__(self, settings: Settings, *, client_id: str, request_timeout_s: float) -> None:
        self._request_ms = int(request_timeout_s * 1000)
        self._options = aiokafka_options(settings) | {"client_id": client_id, "request_timeout_ms": self._request_ms}
        self._client: AIOKafkaClient | None = None
        self._connected = asyncio.Event()
        self.last_error = ""
        """What the last failure was; empty after a success."""

    async def connect(self) -> None:
        """Reach one of the brokers, however long it takes."""
        pause = AGAIN_S
        while True:
            client = AIOKafkaClient(**self._options)
            try:
                await client.bootstrap()
            except Exception as error:  # noqa: BLE001  # whatever it is, the only thing to do is to try again
                self.failed(error)
                await client.close()
            else:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_MAX_S)
        self._client = client
        self._connected.set()

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    @property
    def known(self) -> int:
        """How many brokers there are; 0 before one was reached."""
        return len(self._client.cluster.brokers()) if self._client is not None else 0

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
        if self._client is not None:
            await self._client.add_topic(topic)

    async def partitions(self, topic: str) -> int:
        """Ask how many partitions a topic has, once a broker was reached; 0: no such topic. Raises what `is_unanswered` knows."""
        described = ClusterMetadata()
        described.update_metadata(await self._ask(MetadataRequest([topic], allow_auto_topic_creation=False)))
        return len(described.partitions_for_topic(topic) or ())

    async def new_producer_id(self) -> int:
        """Ask for an id under which batches are numbered. Raises what `is_unanswered` knows."""
        answer = await self._ask(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_NO_TRANSACTION_MS))
        if answer.error_code:
            raise for_code(answer.error_code)
        return int(answer.producer_id)

    async def produce(self, node_id: int, batches: Sequence[tuple[str, int, bytearray]]) -> Answer:
        """Have a broker write batches of partitions that it leads; a KafkaError, mostly, if there is no answer."""
        if self._client is None:
            raise NodeNotReadyError("no broker is known yet")
        topics: dict[str, list[tuple[int, bytearray]]] = {}
        for topic, number, data in batches:
            topics.setdefault(topic, []).append((number, data))
        answer = await self._client.send(
            node_id,
            ProduceRequest(transactional_id=None, required_acks=_ALL_IN_SYNC, timeout=self._request_ms, topics=list(topics.items())),
        )
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

    async def _ask(self, request: Any) -> Any:
        await self._connected.wait()
        node_id = self._client.get_random_node() if self._client is not None else None
        if self._client is None or node_id is None:
            raise NodeNotReadyError("no broker is known yet")
        return await self._client.send(node_id, request)


def _sentence(error: Exception) -> str:
    if isinstance(error, BrokerResponseError):
        return str(ConfluentError(error.errno).str())  # librdkafka has words for what aiokafka has names for
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}" if text else name
