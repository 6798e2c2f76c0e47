"""What a sink is, and what it is built from."""

import asyncio
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.clock import Clock
from infra.config_tables import ConfigTables
from infra.kafka.consumer import Taken
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import Topic


@dataclass(frozen=True, kw_only=True)
class Context:
    """The real things a sink works with."""

    settings: Settings
    producer: Producer
    config: ConfigTables
    clock: Clock


class Claims(Protocol):
    """Makes an effect this worker's own before it happens. `leaving` is set while partitions are being taken away."""

    leaving: asyncio.Event

    async def claim(self, record: Record) -> float:
        """Return until when (time.monotonic) the effect of a record may begin; LostPartitionError if it is somebody else's."""

    def begins(self, record: Record) -> None:
        """Note that the effect of a claimed record begins, before it does."""

    def unclaim(self, record: Record) -> None:
        """Give back the claim of an effect that certainly did not happen."""


class Sink(Protocol):
    """A consumer group with an effect outside Kafka."""

    group: str
    topics: Sequence[Topic]
    batch_max: int
    shares_lanes: bool  # many conversations are in one lane, and the order of their records does not matter; canaries are in another one
    held_max: Mapping[str, int]  # how many records of these topics may be held, of which each partition has its share
    left_in_log: Collection[str]  # topics of which a lane need not hold all that comes: the rest waits in the log until it has room
    unhurried: Collection[str]  # topics whose records may come up to a quarter of a second late, many at once

    async def start(self) -> None:
        """Get ready for the first record, while the group is being joined; OttlaError if a dependency is missing."""

    def hosted(self, claims: Claims) -> None:
        """Learn who makes claims for this sink; called once, before `start`."""

    def lane(self, record: Record) -> Hashable:
        """Return what shares a lane with the record: mostly its key."""

    async def taken(self, partitions: Sequence[Taken]) -> None:
        """Learn what must be known of newly assigned partitions before any of their records is handled."""

    def take_at_once(self, record: Record) -> bool:
        """Take a record that needs no lane, because nothing is waited for; False for one that has to go to `handle`."""

    async def handle(self, records: Sequence[Record]) -> None:
        """Have the effect of records of one conversation, in order; a second time has no second effect.

        Raises AwayError while a dependency is away, DecodeError for a record that is none (its siblings have had their effect).
        """

    async def stop(self) -> None:
        """Let go of connections."""
