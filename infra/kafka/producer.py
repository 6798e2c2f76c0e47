"""The producer of every role: acknowledged by all in-sync replicas, idempotent, in order within a partition, each record with a deadline.

It is ours, over aiokafka's client and its record format: all partitions that wait for a broker go into one request, which is what makes a
record cheap for the broker and for us at a few hundred messages a second; a batch that was refused or is not answered in time ends with an
error, and nothing of it can be written later than what follows (batches.py). Why neither librdkafka's producer nor aiokafka's own:
infra/decisions/0004-producer.md. Records are placed by Java's murmur2, as every other producer of these topics places them.
"""

import asyncio
import random
import weakref
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from aiokafka.errors import KafkaError, NodeNotReadyError, UnknownTopicOrPartitionError, for_code

from infra.fault_points import record_timestamp_ms
from infra.kafka.batches import Batch, PartitionQueue, Waiting
from infra.kafka.brokers import AGAIN_MAX_S, AGAIN_S, Answer, Brokers, at_most
from infra.metrics import PRODUCE_ERRORS, PRODUCER_QUEUE
from infra.settings import Settings
from infra.tracing import with_traceparent
from schemas.codec import Headers
from schemas.ids import key_hash
from schemas.topics import RECORD_BYTES_MAX

_RECORDS_MAX = 200_000
_BYTES_MAX = 256 << 20
_RECORD_BYTES_MAX = RECORD_BYTES_MAX + 65_536
_REQUEST_BYTES_MAX = 16 << 20
"""A request is closed at this size, well below what a broker takes (socket.request.max.bytes, 100 MiB)."""
_OVERHEAD_BYTES = 100
"""What a record takes beside its key, value and headers, about."""

_REQUEST_S = 5.0
_SWEEP_S = 0.25
# A process that was paused has answers to read first: what they acknowledge did not take too long.
_SWEEP_LATE_S = 1.0
_SWEEP_AGAIN_S = 0.05
_DOUBLINGS_MAX = 8
# A topic that is missing at first may be about to be made; after this it is an error.
_MISSING_S = 5.0
_KEYS_REMEMBERED = 32_768

_hash = lru_cache(_KEYS_REMEMBERED)(key_hash)
"""A conversation's key comes again and again, and hashing it takes as long as all the rest."""

_STOPPED = "the producer was not started, or was stopped"


class ProduceError(Exception):
    """A record that was not acknowledged in time, or refused; it may or may not be in the log."""


class RecordWriter(Protocol):
    """What takes records: the producer, or what stands in its place where nothing may be written."""

    def produce(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> asyncio.Future[int]:
        """Take a record; the future becomes its offset, or raises ProduceError."""

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> int:
        """Take a record and return its offset; ProduceError if it is not taken."""


class _Unplaced(NamedTuple):
    """A record of a topic whose partitions are not known yet."""

    record: Waiting
    partition: int


class Producer:
    """Sends records and hands out their acknowledgement; topics are named without the installation's prefix.

    It belongs to the event loop in which it was started, and is used from there alone.
    """

    def __init__(self, settings: Settings, *, client_id: str, delivery_timeout_s: float = 30.0, linger_ms: float = 1.0) -> None:
        self._prefix = settings.topic_prefix
        self._delivery_s = delivery_timeout_s
        self._linger_s = linger_ms / 1000
        self._brokers = Brokers(settings, client_id=client_id, request_timeout_s=min(delivery_timeout_s / 2, _REQUEST_S))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._partitions: dict[str, int] = {}
        """Of the topics whose leaders are known, so that records can be placed at once."""
        self._asked: dict[str, int] = {}
        self._learning: set[str] = set()
        self._unplaced: dict[str, deque[_Unplaced]] = {}
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._waiting: dict[PartitionQueue, None] = {}
        """The queues in which a batch may wait, the one that waits longest first."""
        self._busy: set[int] = set()
        """The brokers that have a request of ours: each has one at most, so that its partitions keep their order."""
        self._producer_id: int | None = None
        self._asking_for_id = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumping: asyncio.Handle | None = None
        self._trying_again: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._records = 0
        self._bytes = 0
        self._room = asyncio.Event()

    async def start(self) -> None:
        """Start sending; needs a running event loop. Does not wait for the broker."""
        self._loop = asyncio.get_running_loop()
        # A client that a gauge holds would try to reach its broker for ever.
        held = weakref.ref(self)
        PRODUCER_QUEUE.set_function(lambda: producer.queued if (producer := held()) is not None else 0)
        self._begin(self._brokers.keep_connected(self._pump))

    @property
    def queued(self) -> int:
        """How many records wait to be acknowledged."""
        return self._records

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is queued, for at most `timeout_s` seconds, then stop."""
        loop = self._loop
        if loop is None:
            return
        deadline = loop.time() + timeout_s
        while self._records and (left := deadline - loop.time()) > 0:
            self._room.clear()
            await at_most(left, self._room.wait())
        self._loop = None
        self._expire(float("inf"), "the producer was stopped")
        for handle in (self._pumping, self._trying_again, self._sweeping):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._brokers.close()

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

        Raises ProduceError at once when the queue is full or the record is larger than any topic takes.
        """
        loop = self._loop
        if loop is None:
            raise ProduceError(_STOPPED)
        headers = with_traceparent(headers) if headers else []
        size = len(key or b"") + len(value or b"") + sum(len(name) + len(content) for name, content in headers) + _OVERHEAD_BYTES
        if size > _RECORD_BYTES_MAX:
            PRODUCE_ERRORS.labels(topic).inc()
            raise ProduceError(f"a record for {topic} of {size:,} bytes is too large: a topic takes {_RECORD_BYTES_MAX:,} at most")
        if self._records >= _RECORDS_MAX or self._bytes + size > _BYTES_MAX:
            PRODUCE_ERRORS.labels(topic).inc()
            raise ProduceError("the producer's queue is full")
        future: asyncio.Future[int] = loop.create_future()
        record = Waiting(key, value, headers, record_timestamp_ms() or None, size, future, loop.time() + self._delivery_s)
        self._records += 1
        self._bytes += size
        if topic in self._partitions:
            self._place(topic, record, partition)
        else:
            self._unplaced.setdefault(topic, deque()).append(_Unplaced(record, partition))
            if topic not in self._learning:
                self._learning.add(topic)
                self._begin(self._learn(topic))
        if self._pumping is None:
            self._pumping = loop.call_later(self._linger_s, self._pump) if self._linger_s else loop.call_soon(self._pump)
        if self._sweeping is None:
            self._sweep_in(_SWEEP_S)
        return future

    async def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1) -> int:
        """Send a record, wait for its acknowledgement and return its offset; ProduceError if there is none in time."""
        return await self.produce(topic, key=key, value=value, headers=headers, partition=partition)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has (fixed when it was made); ProduceError if the broker does not say."""
        known = self._partitions.get(topic) or self._asked.get(topic)
        if known is None:
            known = self._asked[topic] = await self.ask_partitions(topic)
        return known

    async def ask_partitions(self, topic: str, timeout_s: float = 5.0) -> int:
        """Ask the broker how many partitions a topic has; ProduceError if it does not answer or does not have it."""
        if self._loop is None:
            raise ProduceError(_STOPPED)
        name = self._prefix + topic
        try:
            async with asyncio.timeout(timeout_s):
                counted = await self._count(name)
                while counted is None:
                    await asyncio.sleep(AGAIN_S)
                    counted = await self._count(name)
        except TimeoutError:
            raise ProduceError(self._brokers.last_error or f"no answer within {timeout_s:g} s") from None
        if not counted:
            raise ProduceError(f"no topic {name}: run `ottla topics create`")
        return counted

    # -- what has to be asked first ----------------------------------------------------------------------------------------------------

    async def _count(self, name: str) -> int | None:
        """Ask for the number of a topic's partitions; 0: there is no such topic, None: it was not answered."""
        try:
            return await self._brokers.partitions(name)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is asked again
            self._brokers.failed(error)
            return None

    async def _learn(self, topic: str) -> None:
        """Find out how many partitions a topic has and who leads them, then place the records that wait for it."""
        loop = asyncio.get_running_loop()
        name = self._prefix + topic
        missing_since: float | None = None
        try:
            while topic in self._unplaced:  # until they are placed, or have all expired
                count = await self._count(name)
                if count:
                    await self._brokers.learn_leaders(name)
                    self._partitions[topic] = count
                    for record, partition in self._unplaced.pop(topic, ()):
                        self._place(topic, record, partition)
                    self._pump()
                    return
                if count is None:
                    missing_since = None
                else:
                    missing_since = missing_since or loop.time()
                    if loop.time() - missing_since > _MISSING_S:
                        self._expire_unplaced(topic, float("inf"), f"no topic {name}: run `ottla topics create`")
                        return
                await asyncio.sleep(AGAIN_S)
        finally:
            self._learning.discard(topic)

    async def _ask_for_id(self) -> None:
        """Get an id for this producer, under which the brokers count its batches."""
        pause = AGAIN_S
        try:
            while self._producer_id is None:
                try:
                    self._producer_id = await self._brokers.new_producer_id()
                except Exception as error:  # noqa: BLE001  # as above
                    self._brokers.failed(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, AGAIN_MAX_S)
        finally:
            self._asking_for_id = False
        self._pump()

    # -- from queues to requests ---------------------------------------------------------------------------------------------------------

    def _place(self, topic: str, record: Waiting, partition: int) -> None:
        """Put a record into the queue of its partition, or settle it with what is wrong with it."""
        try:
            queue = self._queue(topic, record.key, partition)
            queue.append(record)
        except Exception as error:  # noqa: BLE001  # whatever its caller gave us, no other record suffers from it
            self._settle_one(topic, record, f"the record cannot be written: {error}")
        else:
            self._waiting[queue] = None

    def _queue(self, topic: str, key: bytes | None, partition: int) -> PartitionQueue:
        count = self._partitions[topic]
        if partition < 0:
            partition = random.randrange(count) if key is None else _hash(key) % count  # noqa: S311  # a place, not a secret
        elif partition >= count:
            raise ProduceError(f"{topic} has no partition {partition}, only {count}")
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = PartitionQueue(topic, partition)
        return queue

    def _pump(self) -> None:
        """Send what may go out now: one request for each broker that has none, with one batch of each partition."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        loop = self._loop
        # Where all are busy, whoever answers first comes here again.
        if loop is None or self._busy.issuperset(self._brokers.ids):
            return
        if self._trying_again is not None:
            self._trying_again.cancel()
            self._trying_again = None
        requests, again_at = self._gather(loop.time())
        for leader, queues in requests.items():
            self._busy.add(leader)
            self._begin(self._request(leader, queues))
        if again_at is not None:
            self._trying_again = loop.call_later(again_at - loop.time(), self._pump)

    def _gather(self, now: float) -> tuple[dict[int, list[PartitionQueue]], float | None]:
        """Return the queues whose next batch may go out, by their leader, and when to look again for those that had to be put off."""
        requests: dict[int, list[PartitionQueue]] = {}
        sizes: dict[int, int] = {}
        put_off: list[float] = []
        for queue in list(self._waiting):
            if not queue.is_waiting:
                del self._waiting[queue]
                continue
            leader = self._leader(queue, now)
            if leader is None:
                put_off.append(queue.not_before)
                continue
            size = sizes.get(leader, 0) + queue.next_size
            if leader in self._busy or (leader in requests and size > _REQUEST_BYTES_MAX):
                continue
            if not queue.take(self._producer_id):
                self._want_id()
                continue
            del self._waiting[queue]
            requests.setdefault(leader, []).append(queue)
            sizes[leader] = size
        return requests, min(put_off, default=None)

    def _leader(self, queue: PartitionQueue, now: float) -> int | None:
        """Return who may be asked to write a queue's next batch; None: nobody before `queue.not_before`."""
        if queue.not_before > now:
            return None
        leader = self._brokers.leader(self._prefix + queue.topic, queue.number)
        if leader is None:
            queue.not_before = now + AGAIN_S
        return leader

    def _want_id(self) -> None:
        # Asked for at the first batch; a partition that has used up the epochs of one id goes on under the next.
        self._producer_id = None
        if not self._asking_for_id:
            self._asking_for_id = True
            self._begin(self._ask_for_id())

    async def _request(self, node_id: int, queues: Sequence[PartitionQueue]) -> None:
        """Send one batch of each queue to their leader, and settle, repeat or give up each by its answer."""
        answer: Answer = {}
        error: Exception = UnknownTopicOrPartitionError()  # of a partition that an answer leaves out
        try:
            await self._brokers.reach(node_id)
            queues = [queue for queue in queues if not self._is_too_late(queue)]
            batches = [(self._prefix + queue.topic, queue.number, queue.leave()) for queue in queues]
            if batches:
                answer = await self._brokers.produce(node_id, batches)
        except Exception as caught:  # noqa: BLE001  # whatever it is, what became of the batches is not known
            error = caught.with_traceback(None)  # whose frames would keep the batches
        finally:
            self._busy.discard(node_id)
        for queue in queues:
            code, offset = answer.get((self._prefix + queue.topic, queue.number), (None, -1))
            if code == 0:
                _acknowledge(self._forget(queue.acknowledged()), offset)
            else:
                self._refused(queue, error if code is None else for_code(code)())
            if queue.is_waiting:
                self._waiting[queue] = None
        if queues and all(code == 0 for code, _ in answer.values()) and len(answer) == len(queues):
            self._brokers.last_error = ""
        self._room.set()
        self._pump()

    def _is_too_late(self, queue: PartitionQueue) -> bool:
        """Give up a batch whose time was over before its broker was reached: its callers were told, and may have written it again."""
        loop = self._loop
        if loop is None or not queue.is_too_late(loop.time()):
            return False
        self._fail(queue.topic, queue.given_up(), self._too_late())
        if queue.is_waiting:
            self._waiting[queue] = None
        return True

    def _refused(self, queue: PartitionQueue, error: Exception) -> None:
        """Let a batch go out again, unless its time is over or it can never be written."""
        self._brokers.failed(error)
        if isinstance(error, NodeNotReadyError) or getattr(error, "invalid_metadata", False):
            self._brokers.leaders_changed()
        batch, loop = queue.in_flight, self._loop
        if batch is None or loop is None:
            return
        if isinstance(error, KafkaError) and not error.retriable:
            self._fail(queue.topic, queue.given_up(), self._brokers.last_error)
        elif batch.deadline <= loop.time():
            self._fail(queue.topic, queue.given_up(), self._too_late())
        else:
            queue.not_before = loop.time() + min(AGAIN_S * 2 ** min(queue.again() - 1, _DOUBLINGS_MAX), AGAIN_MAX_S)

    # -- what became of the records ------------------------------------------------------------------------------------------------------

    def _sweep_in(self, seconds: float) -> None:
        if self._loop is not None:
            self._sweep_due = self._loop.time() + seconds
            self._sweeping = self._loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Settle what has waited too long."""
        self._sweeping = None
        if self._loop is None:
            return
        now = self._loop.time()
        if now - self._sweep_due > _SWEEP_LATE_S:
            self._sweep_in(_SWEEP_AGAIN_S)
            return
        self._expire(now, self._too_late())
        if self._records:
            self._sweep_in(_SWEEP_S)

    def _too_late(self) -> str:
        last_error = self._brokers.last_error
        return f"not acknowledged within {self._delivery_s:g} s" + (f" ({last_error})" if last_error else "")

    def _expire(self, now: float, reason: str) -> None:
        for queue in self._queues.values():
            for batch in queue.expire(now):
                self._fail(queue.topic, batch, reason)
        for topic in list(self._unplaced):
            self._expire_unplaced(topic, now, reason)
        self._room.set()

    def _expire_unplaced(self, topic: str, now: float, reason: str) -> None:
        unplaced = self._unplaced.get(topic, deque())
        while unplaced and unplaced[0].record.deadline <= now:
            self._settle_one(topic, unplaced.popleft().record, reason)
        if not unplaced:
            self._unplaced.pop(topic, None)
        self._room.set()

    def _forget(self, batch: Batch) -> list[asyncio.Future[int]]:
        """Take a batch off the books and return the futures of its records; none if it was settled before."""
        futures, batch.futures = batch.futures, []
        if futures:
            self._records -= batch.count
            self._bytes -= batch.size
        return futures

    def _fail(self, topic: str, batch: Batch, reason: str) -> None:
        for future in self._forget(batch):
            PRODUCE_ERRORS.labels(topic).inc()
            if not future.done():  # else nobody waits any more: cancelled, or given up
                future.set_exception(ProduceError(reason))

    def _settle_one(self, topic: str, record: Waiting, reason: str) -> None:
        self._records -= 1
        self._bytes -= record.size
        PRODUCE_ERRORS.labels(topic).inc()
        if not record.future.done():
            record.future.set_exception(ProduceError(reason))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _acknowledge(futures: Sequence[asyncio.Future[int]], first: int) -> None:
    for offset, future in enumerate(futures, first):
        if not future.done():  # else nobody waits any more
            future.set_result(offset)


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
