"""infra.kafka.batches: which records go out together, and under which number, whatever becomes of them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from infra.kafka.batches import BATCH_BYTES, PartitionQueue, Waiting

OURS = 7
LATEST_EPOCH = 2**15 - 1


def _record(value: bytes = b"1", *, deadline: float = 100.0) -> Waiting:
    return Waiting(b"a", value, [], None, len(value), asyncio.get_running_loop().create_future(), deadline)


def _queue(*values: bytes, deadline: float = 100.0) -> PartitionQueue:
    queue = PartitionQueue("raw", 0)
    for value in values:
        queue.append(_record(value, deadline=deadline))
    return queue


def _sent(queue: PartitionQueue) -> tuple[int, int, int, list[bytes]]:
    """Send the next batch; return its producer id, epoch, number and values, as a broker reads them."""
    assert queue.take(OURS)
    (batch,) = [*_batches(bytes(queue.leave()))]
    return batch.producer_id, batch.producer_epoch, batch.base_sequence, [record.value for record in batch]


def _batches(data: bytes) -> Iterator[Any]:
    records = MemoryRecords(data)
    while records.has_next():
        yield records.next_batch()


async def test_records_that_wait_go_out_together_and_are_counted_on() -> None:
    """The next number follows all records of the batch before it."""
    queue = _queue(b"1", b"2")
    assert _sent(queue) == (OURS, 0, 0, [b"1", b"2"])
    queue.append(_record(b"3"))
    assert not queue.is_waiting, "one batch at a time: else a repeated one could come after its successor"
    queue.acknowledged()
    assert _sent(queue) == (OURS, 0, 2, [b"3"])


async def test_a_batch_goes_out_again_as_it_was() -> None:
    """What came meanwhile waits behind it, and does not change it: the broker knows it by its number."""
    queue = _queue(b"1")
    _sent(queue)
    queue.append(_record(b"2"))
    assert queue.again() == 1
    queue.append(_record(b"3"))
    assert _sent(queue) == (OURS, 0, 0, [b"1"])
    assert queue.again() == 2
    assert _sent(queue) == (OURS, 0, 0, [b"1"])
    queue.acknowledged()
    assert _sent(queue) == (OURS, 0, 1, [b"2", b"3"])


async def test_a_batch_given_up_ends_its_epoch() -> None:
    """It may still be written: what follows must have numbers with which it cannot be confused, and after which it is refused."""
    queue = _queue(b"1")
    _sent(queue)
    queue.append(_record(b"2"))
    assert len(queue.given_up().futures) == 1
    assert _sent(queue) == (OURS, 1, 0, [b"2"])


async def test_a_batch_that_no_broker_has_seen_leaves_no_trace() -> None:
    """Its leader could not be reached: its number is free."""
    queue = _queue(b"1", deadline=10.0)
    assert queue.take(OURS)
    queue.again()
    assert len(queue.expire(10.0)) == 1
    queue.append(_record(b"2"))
    assert _sent(queue) == (OURS, 0, 0, [b"2"])


async def test_time_is_over() -> None:
    """Of a batch on its way the outcome still counts; one that waits to go out again ends its epoch; one that never went just goes."""
    queue = _queue(b"1", deadline=10.0)
    _sent(queue)
    queue.append(_record(b"2", deadline=10.1))
    assert [batch.count for batch in queue.expire(10.05)] == [1]
    queue.acknowledged()
    assert _sent(queue) == (OURS, 0, 1, [b"2"])
    queue.again()
    queue.append(_record(b"3", deadline=10.2))
    queue.append(_record(b"4", deadline=99.0))
    assert [batch.count for batch in queue.expire(11.0)] == [1, 1]
    assert _sent(queue) == (OURS, 1, 0, [b"4"])


async def test_too_late_before_it_left() -> None:
    """Only a batch that no broker has seen can be dropped without a trace."""
    queue = _queue(b"1", deadline=10.0)
    assert not queue.is_too_late(99.0)
    assert queue.take(OURS)
    assert not queue.is_too_late(9.9)
    assert queue.is_too_late(10.0)
    queue.leave()
    assert not queue.is_too_late(10.0)


async def test_who_comes_much_later_is_not_given_up_with_the_first() -> None:
    """A batch ends with its oldest record, so one that would have more time waits in a batch of its own."""
    queue = _queue(b"1", deadline=10.0)
    queue.append(_record(b"2", deadline=10.4))
    queue.append(_record(b"3", deadline=10.6))
    assert [batch.count for batch in queue.expire(10.5)] == [2]
    assert queue.is_waiting


async def test_a_large_record_goes_alone() -> None:
    """A batch of small ones has a size that each topic takes; a record above it cannot take others with it."""
    large = bytes(BATCH_BYTES + 1)
    queue = _queue(b"1", large, b"2", b"3")
    sent = []
    while queue.is_waiting:
        assert queue.take(OURS)
        sent.append(queue.acknowledged().count)
    assert sent == [1, 1, 2]


async def test_used_up_epochs() -> None:
    """Epochs have 15 bits. After the last one the partition needs a new id, under which it begins again."""
    queue = _queue()
    for epoch in range(LATEST_EPOCH + 1):
        queue.append(_record())
        assert _sent(queue)[:3] == (OURS, epoch, 0)
        queue.given_up()
    queue.append(_record())
    assert not queue.take(None)
    assert not queue.take(OURS), "the broker would take the first batch of its first epoch for a repetition"
    assert queue.take(OURS + 1)
    (batch,) = _batches(bytes(queue.leave()))
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (OURS + 1, 0, 0)


async def test_numbers_begin_again_after_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have 31 bits; Kafka counts on with 0."""
    queue = _queue(b"1", b"2", b"3")
    monkeypatch.setattr(queue, "_sequence", 2**31 - 2)
    assert _sent(queue)[2] == 2**31 - 2
    queue.acknowledged()
    queue.append(_record(b"4"))
    assert _sent(queue)[2] == 1


async def test_nothing_on_its_way() -> None:
    """Asked about a batch that there is not, it says so rather than count wrongly."""
    queue = _queue(b"1")
    for ask in (queue.leave, queue.acknowledged, queue.again, queue.given_up):
        with pytest.raises(RuntimeError, match="nothing is on its way to raw-0"):
            ask()
