"""The producer of every role: confluent-kafka behind `await`, acknowledged by all in-sync replicas, idempotent.

librdkafka calls back on the thread that polls. Callbacks only append to a deque, and the poll thread wakes the event loop once a poll
rather than once a record: measured, that is what makes awaiting acknowledgements cheap. Records are placed by Java's murmur2, as every
other producer of these topics places them. aiokafka's and Faust's own producers were weighed in infra/decisions/0004-producer.md.
"""

import asyncio
import logging
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as ConfluentProducer

from infra.fault_points import record_timestamp_ms
from infra.kafka.connection import librdkafka_options
from infra.metrics import PRODUCE_ERRORS, PRODUCER_QUEUE
from infra.settings import Settings
from infra.tracing import with_traceparent
from schemas.codec import Headers
from schemas.topics import RECORD_BYTES_MAX

log = structlog.get_logger()

_POLL_S = 0.05
_QUEUE_RECORDS_MAX = 200_000
_QUEUE_KIB_MAX = 256 * 1024


class ProduceError(Exception):
    """A record that was not acknowledged in time, or refused; it may or may not be in the log."""


class RecordWriter(Protocol):
    """What takes records: the producer, or what stands in its place where nothing may be written."""

    def produce(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> asyncio.Future[int]:
        """Take a record; the future becomes its offset, or raises ProduceError."""

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> int:
        """Take a record and return its offset; ProduceError if it is not taken."""


class Producer:
    """Sends records and hands out their acknowledgement; topics are named without the installation's prefix."""

    def __init__(self, settings: Settings, *, client_id: str, delivery_timeout_s: float = 30.0, linger_ms: float = 1.0) -> None:
        self._prefix = settings.topic_prefix
        self._config: dict[str, Any] = librdkafka_options(settings) | {
            "client.id": client_id,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "message.max.bytes": RECORD_BYTES_MAX + 65_536,
            "queue.buffering.max.messages": _QUEUE_RECORDS_MAX,
            "queue.buffering.max.kbytes": _QUEUE_KIB_MAX,
            "delivery.timeout.ms": int(delivery_timeout_s * 1000),
            "request.timeout.ms": int(min(delivery_timeout_s, 5.0) * 1000),
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 60_000,
            # A topic that is missing at first may be about to be made; after this it is an error.
            "topic.metadata.propagation.max.ms": 5_000,
            "log_level": 3,
        }
        self._delivered: deque[tuple[asyncio.Future[int], KafkaError | None, int, str]] = deque()
        self._partitions: dict[str, int] = {}
        self._room = asyncio.Event()
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: ConfluentProducer | None = None
        self._thread: threading.Thread | None = None
        self.fatal: str = ""

    async def start(self) -> None:
        """Start sending; needs a running event loop. Does not wait for the broker."""
        self._loop = asyncio.get_running_loop()
        self._client = ConfluentProducer(self._config, logger=logging.getLogger("librdkafka"))
        # A client that a gauge holds would try to reach its broker for ever.
        held = weakref.ref(self)
        PRODUCER_QUEUE.set_function(lambda: producer.queued if (producer := held()) is not None else 0)
        self._thread = threading.Thread(target=self._poll, name="producer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many records wait to be acknowledged."""
        return len(self._client) if self._client is not None else 0

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is queued, for at most `timeout_s` seconds, then stop."""
        if self._client is None or self._thread is None:
            return
        deadline = asyncio.get_running_loop().time() + timeout_s
        while len(self._client) and asyncio.get_running_loop().time() < deadline:
            self._room.clear()
            await _wait_at_most(self._room, 0.1)
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)
        self._drain()

    def produce(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        partition: int = -1,
    ) -> asyncio.Future[int]:
        """Queue a record; the future becomes its offset, or raises ProduceError. Records of one partition keep their order.

        Raises ProduceError at once when the queue is full or the client is broken for good.
        """
        if self._client is None or self._loop is None:
            raise ProduceError("the producer was not started")
        future: asyncio.Future[int] = self._loop.create_future()
        headers = with_traceparent(headers) if headers else []

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._delivered.append((future, error, message.offset(), topic))

        try:
            self._client.produce(
                self._prefix + topic, value, key, partition, on_delivery=delivered, headers=headers, timestamp=record_timestamp_ms()
            )
        except BufferError:
            PRODUCE_ERRORS.labels(topic).inc()
            raise ProduceError("the producer's queue is full") from None
        except KafkaException as error:
            PRODUCE_ERRORS.labels(topic).inc()
            raise ProduceError(str(error.args[0])) from error
        return future

    async def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1) -> int:
        """Send a record, wait for its acknowledgement and return its offset; ProduceError if there is none in time."""
        return await self.produce(topic, key=key, value=value, headers=headers, partition=partition)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has (fixed when it was made); ProduceError if the broker does not say."""
        known = self._partitions.get(topic)
        if known is None:
            known = self._partitions[topic] = await self.ask_partitions(topic)
        return known

    async def ask_partitions(self, topic: str, timeout_s: float = 5.0) -> int:
        """Ask the broker how many partitions a topic has; ProduceError if it does not answer or does not have it."""
        client = self._client
        if client is None:
            raise ProduceError("the producer was not started")
        name = self._prefix + topic
        try:
            metadata = await asyncio.to_thread(client.list_topics, name, timeout_s)
        except KafkaException as error:
            raise ProduceError(str(error.args[0])) from error
        described = metadata.topics[name]
        if described.error is not None or not described.partitions:
            raise ProduceError(f"no topic {name}: run `ottla topics create`")
        return len(described.partitions)

    def _poll(self) -> None:
        client, loop = self._client, self._loop
        if client is None or loop is None:
            return
        while not self._stopped.is_set():
            client.poll(_POLL_S)
            if self._delivered:
                try:
                    loop.call_soon_threadsafe(self._drain)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return

    def _drain(self) -> None:
        delivered = self._delivered
        while delivered:
            future, error, offset, topic = delivered.popleft()
            if error is not None:
                PRODUCE_ERRORS.labels(topic).inc()
            if error is not None and error.fatal():
                self.fatal = str(error)
            if future.done():  # nobody waits any more: cancelled, or given up
                continue
            if error is None:
                future.set_result(offset)
            else:
                future.set_exception(ProduceError(error.str()))
        self._room.set()


async def _wait_at_most(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return


async def settle(futures: Sequence[asyncio.Future[int]]) -> None:
    """Wait for all acknowledgements; raises the first ProduceError only after every one is known, so none is left unread."""
    failed: Exception | None = None
    try:
        for future in futures:
            try:
                await future
            except Exception as error:  # noqa: BLE001  # raised below, once the others are known
                failed = failed or error
    except asyncio.CancelledError:
        for future in futures:
            future.cancel()
        raise
    if failed is not None:
        raise failed
