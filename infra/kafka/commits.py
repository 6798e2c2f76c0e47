"""What a member of a group commits: per partition the offset below which all is done, and the claims on records above it.

Every claim that is wanted in one moment shares one commit, and so does what was done meanwhile. What a claim is, and why a commit can make
one, is in `infra.kafka.claims` and infra/decisions/0007-claims.md.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalOperation, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from infra.fault_points import point, without
from infra.kafka.claims import CLAIMS_MAX, Claims, ClaimsError, decode_claims, encode_claims
from infra.kafka.departures import Departures, Place, begun_by
from infra.lanes import Watermark

log = structlog.get_logger()

_COMMIT_INTERVAL_S = 0.3
_CLAIM_RETRY_S = 0.05
# What a killed process has claimed and not sent is parked where its file is not at hand: so few at once that it stays rare, enough for
# thousands a second.
_CLAIMS_AT_ONCE = 32

CLAIM_S = 5.0
"""How long a claim is good, in monotonic seconds from before it was asked for. Its holder looks once more right before the effect."""

Marks = Mapping[TopicPartition, Watermark]


class LostPartitionError(Exception):
    """The record's partition belongs to somebody else by now: no effect may follow."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the broker has of a partition: the committed offset (None: nothing yet), and claims above it whose effect may have happened."""

    committed: int | None
    claims: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    source: TopicPartition
    offset: int
    granted: asyncio.Future[float]


class Commits:
    """Commits for one member. `marks` returns the partitions that are its own now; `folder` is where claims that begin are noted."""

    def __init__(self, *, group: str, folder: Path, marks: Callable[[], Marks]) -> None:
        self._group = group
        self._folder = folder
        self._marks = marks
        self._consumer: Any = None
        self._committed: dict[TopicPartition, int] = {}
        self._lock = asyncio.Lock()
        self._claimed: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        self._inherited: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        self._departures: Departures | None = None
        self._claims_changed: set[TopicPartition] = set()
        self._wanted: list[_Wanted] = []
        self._claim_wanted = asyncio.Event()
        self._all_due_at = 0.0

    def begin(self, consumer: Any) -> None:
        """Learn through which of aiokafka's consumers to commit."""
        self._consumer = consumer

    def close(self) -> None:
        """Give up the file of claims that began; it stays where one is open."""
        if self._departures is not None:
            self._departures.close(remove=not any(self._claimed.values()))

    async def claim(self, source: TopicPartition, offset: int) -> float:
        """Claim a record before its effect; return until when (time.monotonic) that may begin. LostPartitionError if it is not ours."""
        if self._departures is None:
            self._departures = Departures(self._folder)
        granted: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Wanted(source, offset, granted))
        self._claim_wanted.set()
        return await granted

    def begins(self, source: TopicPartition, offset: int) -> None:
        """Note that the effect of a claimed record begins, before it does."""
        if self._departures is not None:
            self._departures.begin(_place(source, offset))

    def unclaim(self, source: TopicPartition, offset: int) -> None:
        """Give a claim back whose effect certainly did not happen; the next commit says so."""
        if self._departures is not None:
            self._departures.give_back(_place(source, offset))
        self.forget_claim(source, offset)

    def forget_claim(self, source: TopicPartition, offset: int) -> None:
        """Hold no claim on a record any more, if there is one: it is done."""
        for claims in (self._claimed, self._inherited):
            if offset in claims.get(source, ()):
                claims[source].discard(offset)
                self._claims_changed.add(source)
        if self._departures is not None:
            self._departures.forget(_place(source, offset))

    async def commit_often(self) -> None:
        """Commit what was done, and make the claims that are wanted, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_at(self._all_due_at, self._claim_wanted.set)
            try:
                await self._claim_wanted.wait()
            finally:
                timer.cancel()
            self._claim_wanted.clear()
            if loop.time() >= self._all_due_at:
                of = None
                self._all_due_at = loop.time() + _COMMIT_INTERVAL_S
            else:
                of = {claim.source for claim in self._wanted[:_CLAIMS_AT_ONCE]}
            if self._wanted:
                await self._commit_claims(of)
            elif of is None:
                await self.commit(self._marks())

    async def _commit_claims(self, of: Collection[TopicPartition] | None) -> None:
        """Make every claim that is wanted now with one commit; what does not fit, or was not answered, waits for the next one.

        The commit is `of` the partitions that these claims are made in, for each costs the broker a record; or of all (None).
        """
        started = time.monotonic()
        held: list[_Wanted] = []
        postponed: list[_Wanted] = []
        marks = self._marks()
        for claim in self._next_wanted():
            if claim.source not in marks:
                _refuse(claim)
            elif len(self._claimed[claim.source]) + len(self._inherited[claim.source]) >= CLAIMS_MAX:
                postponed.append(claim)
            else:
                self._claimed[claim.source].add(claim.offset)
                self._claims_changed.add(claim.source)
                held.append(claim)
        committed = await self.commit(marks, of)
        for claim in held:
            if claim.granted.done():
                continue
            if committed is None or not self._is_claimed(claim):
                _refuse(claim)
            elif committed:
                claim.granted.set_result(started + CLAIM_S)
            else:
                postponed.append(claim)
        if postponed:
            self._wanted[:0] = postponed
            await asyncio.sleep(_CLAIM_RETRY_S)
        if self._wanted:
            self._claim_wanted.set()

    def _next_wanted(self) -> list[_Wanted]:
        """Take the next claims but for those whose wanters gave up while no broker answered: their records may be done by now."""
        wanted, self._wanted = self._wanted[:_CLAIMS_AT_ONCE], self._wanted[_CLAIMS_AT_ONCE:]
        return [claim for claim in wanted if not claim.granted.done()]

    def _is_claimed(self, claim: _Wanted) -> bool:
        """Tell whether the partition is still the one the claim was made for: a commit may wait until after a rebalance."""
        return claim.source in self._marks() and claim.offset in self._claimed.get(claim.source, ())

    async def commit(self, marks: Marks, of: Collection[TopicPartition] | None = None) -> bool | None:
        """Commit positions and open claims that changed: True if the broker has them, False if it did not answer, None if refused."""
        async with self._lock:
            changed = self._claims_changed if of is None else self._claims_changed.intersection(of)
            self._claims_changed = self._claims_changed - changed
            offsets: dict[TopicPartition, OffsetAndMetadata] = {}
            for partition in marks if of is None else of:
                mark = marks.get(partition)
                floor = mark.floor if mark is not None else None
                if floor is not None and (partition in changed or self._committed.get(partition) != floor):
                    offsets[partition] = OffsetAndMetadata(floor, encode_claims(floor, self._open_claims(partition, floor)))
            if not offsets:
                return True
            point("consumer.before_commit")
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError, IllegalOperation):
                # The partitions went to somebody else in the meantime: they repeat what was not committed, by its ids harmlessly.
                log.info("commit refused, partitions moved", group=self._group)
                return True if without("fence") else None
            except KafkaError as error:
                self._claims_changed |= changed
                log.warning("commit failed, will be repeated", group=self._group, error=str(error))
                return False
            point("consumer.committed")
            self._committed.update((partition, each.offset) for partition, each in offsets.items())
            return True

    def _open_claims(self, source: TopicPartition, floor: int) -> Claims:
        token = self._departures.token if self._departures is not None else ""
        # A record that was claimed may have been deleted from the log: then the floor passes it without its end.
        inherited = frozenset(offset for offset in self._inherited.get(source, ()) if offset >= floor)
        return Claims(own=frozenset(self._claimed.get(source, ())), inherited=inherited, token=token)

    def forget(self, revoked: Collection[TopicPartition]) -> None:
        """Know nothing of these partitions any more: they are taken away, and no claim that is wanted is made."""
        for partition in revoked:
            self._committed.pop(partition, None)
            self._claimed.pop(partition, None)
            self._inherited.pop(partition, None)
        self._claims_changed.clear()
        for claim in self._wanted:
            _refuse(claim)
        self._wanted.clear()

    def forget_committed(self) -> None:
        """Take nothing for committed: another member may have had the partitions meanwhile."""
        self._committed.clear()

    async def find(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, Found]:
        """Return what the broker has of these partitions, and carry their open claims on.

        To be asked after the rebalance: no former owner can add to it then, its commits are refused.
        """
        # aiokafka's own `committed()` leaves out the metadata.
        answers = await self._consumer._coordinator.fetch_committed_offsets(list(assigned))  # noqa: SLF001
        found = {}
        for partition in assigned:
            answer = answers.get(partition)
            committed = answer.offset if answer is not None and answer.offset >= 0 else None
            claims: frozenset[int] = frozenset()
            if committed is not None:
                claims = self._perhaps_happened(partition, committed, answer.metadata)
            self._inherited[partition] = set(claims)
            found[partition] = Found(committed, claims)
        return found

    def _perhaps_happened(self, source: TopicPartition, committed: int, metadata: str) -> frozenset[int]:
        """Return the claims in the metadata but for those whose effect certainly did not begin."""
        try:
            claims = decode_claims(committed, metadata)
        except ClaimsError as error:
            log.warning("metadata of a commit is not ours", group=self._group, partition=source.partition, error=str(error))
            return frozenset()
        begun = begun_by(self._folder, claims.token)
        if begun is None:
            return claims.own | claims.inherited
        return claims.inherited | {offset for offset in claims.own if _place(source, offset) in begun}


def _place(source: TopicPartition, offset: int) -> Place:
    return (source.topic, source.partition, offset)


def _refuse(claim: _Wanted) -> None:
    if not claim.granted.done():
        claim.granted.set_exception(LostPartitionError())
