"""infra.kafka.read_partitions: of which partitions is read on, by how much of them is held."""

from typing import Any

from aiokafka import TopicPartition

from infra.kafka.read_partitions import ReadPartitions
from infra.lanes import Watermark

LEDGER, RAW = [[TopicPartition(topic, number) for number in range(4)] for topic in ("ledger", "raw")]


class Consumer:
    """Notes what is paused."""

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()

    def assignment(self) -> set[TopicPartition]:
        return {*LEDGER, *RAW}

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= {*partitions}

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= {*partitions}


def test_each_partition_has_its_share_and_is_read_again_at_half_of_it() -> None:
    """A bound of 40 over four partitions is ten for each; one that has them is not read until five are left. Others are not bounded."""
    consumer: Any = Consumer()
    chosen = ReadPartitions(held_max={"ledger": 40}, unhurried=())
    chosen.assigned(consumer, [*LEDGER, *RAW])
    marks = {place: Watermark() for place in (*LEDGER, *RAW)}
    for offset in range(9):
        marks[LEDGER[0]].begin(offset)
    for offset in range(1_000):
        marks[RAW[0]].begin(offset)
    chosen.choose(consumer, marks)
    assert (consumer.paused, chosen.room(LEDGER[0], marks[LEDGER[0]]), chosen.is_enough(LEDGER[0], marks[LEDGER[0]])) == (set(), 1, False)
    assert chosen.room(RAW[0], marks[RAW[0]]) > 1_000_000
    marks[LEDGER[0]].begin(9)
    assert chosen.is_enough(LEDGER[0], marks[LEDGER[0]])
    marks[LEDGER[0]].end(0)
    for ended in range(1, 5):
        chosen.choose(consumer, marks)
        assert consumer.paused == {LEDGER[0]}
        marks[LEDGER[0]].end(ended)
    marks[LEDGER[0]].end(5)
    chosen.choose(consumer, marks)
    assert consumer.paused == set()
    assert not chosen.is_enough(RAW[0], marks[RAW[0]])
    # What comes back from the log, one when one is done, does not keep others from being read.
    for offset in range(20, 30):
        marks[LEDGER[1]].begin(offset)
    chosen.choose(consumer, marks)
    assert consumer.paused == {LEDGER[1]}
    for offset in range(20, 26):
        marks[LEDGER[1]].begin_late(offset - 20)
        marks[LEDGER[1]].end(offset)
    assert (marks[LEDGER[1]].span, marks[LEDGER[1]].late) == (10, 6)
    marks[LEDGER[1]].end(0)
    chosen.choose(consumer, marks)
    assert consumer.paused == set()
    chosen.assigned(consumer, LEDGER[:2])
    assert chosen.room(LEDGER[0], Watermark()) == 20
