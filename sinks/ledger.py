"""The ledger of sends: what is claimed, what waits, what has an outcome, what a status has settled. Four logs hold it, this is their state.

- CLAIMED: the metadata of the sender's committed offsets, which only the partition's owner can write (`infra.kafka.claims`).
- PLANNED: a send that must wait long is a record of [ledger], with its body; its record of [outbound-*] need not be held for it.
- ACCEPTED, REJECTED, UNKNOWN: the records of [sent]. The first record of an id counts.
- settled: a status in [status] carries a send's id and the platform's id, so the send did arrive whatever became of its answer.

`sinks.ledger_reading` fills it when partitions are taken. In memory, the newest 10,000 sends of each partition are remembered; what may
be older is looked up in history (`sinks.older_sends`).
"""

import asyncio
from dataclasses import dataclass

import structlog

from infra.kafka.record import Record
from infra.metrics import DUPLICATE_SENDS
from infra.newest import Newest
from schemas.events.inbound import RecordPosition
from schemas.ids import account_of_key

log = structlog.get_logger()

# Of a partition, some 0.3 kB each. At 150 sends a second in one partition that is a minute: what may be older is asked of Cassandra.
REMEMBERED_MAX = 10_000
_CLOCKS_APART_MS = 30_000
_OFFSET_BITS = 64


@dataclass(frozen=True, slots=True)
class Since:
    """From where on [sent] is remembered whole: the offset, and the time (milliseconds since 1970) that its records have from there on."""

    offset: int
    time_ms: int


@dataclass(slots=True)
class Plans:
    """What is known of a conversation's records in [ledger]: the newest one, the newest that is done, and how many are being written.

    They are handled in order, so all up to the one that is done are. How many wait is for people to see alone: what a former owner wrote
    too late to be counted ends as well.
    """

    newest: int = -1
    ended: int = -1
    producing: int = 0
    waiting: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing of the conversation waits in [ledger]."""
        return not self.producing and self.ended >= self.newest


def told_of(key: bytes | None, send: str) -> str:
    """Return by what the platform's id of a send is remembered that a record with this key tells of: its account's name and its id.

    Who signs for one account may name any send in a status; it says nothing of another account's.
    """
    return f"{account_of_key((key or b'').decode('utf-8', 'replace'))}/{send}"


class Partition:
    """What is known of the sends of one partition number."""

    def __init__(self, since: Since) -> None:
        self.since = since
        self.plans: dict[bytes, Plans] = {}  # by conversation
        self.left: set[str] = set()
        """Sends without an outcome of which a plan says that they may have left: what an earlier plan of the same send says is older."""
        # Time and offset in one number, a third of what two and their tuple take.
        self._outcomes: Newest[str, int] = Newest(REMEMBERED_MAX)
        self._platform_ids: Newest[str, str] = Newest(REMEMBERED_MAX)

    def has_outcome(self, send: str) -> bool:
        """Tell whether this send is remembered with an outcome."""
        return send in self._outcomes

    def note_outcome(self, send: str, *, offset: int, time_ms: int) -> None:
        """Remember that a send has its outcome, in the record of [sent] at this offset."""
        forgotten = self._outcomes.put(send, time_ms << _OFFSET_BITS | offset)
        if forgotten is not None:
            # Never earlier than before: a worker's clock may be behind, and what was caused later would not be looked up.
            self.since = Since((forgotten & (1 << _OFFSET_BITS) - 1) + 1, max(forgotten >> _OFFSET_BITS, self.since.time_ms))

    def note_planned(self, conversation: bytes, offset: int) -> None:
        """Remember that a record of [ledger] waits."""
        plans = self.plans.setdefault(conversation, Plans())
        plans.newest = max(plans.newest, offset)
        plans.waiting += 1

    def platform_id(self, send: str) -> str | None:
        """Return the platform's id of a send (as `told_of` names it), if its answer or a status told it."""
        return self._platform_ids.get(send)

    def note_platform_id(self, send: str, platform_id: str) -> None:
        """Remember the platform's id of a send (as `told_of` names it); a second id means that it was sent twice."""
        known = self._platform_ids.get(send)
        if known is None:
            self._platform_ids.put(send, platform_id)
        elif known != platform_id:
            DUPLICATE_SENDS.inc()
            log.error("sent twice", send=send.partition("/")[2], platform_ids=[known, platform_id])


class Ledger:
    """What is known of the sends of the partitions this worker owns."""

    def __init__(self) -> None:
        self._partitions: dict[int, Partition] = {}
        self._claimed: set[tuple[str, int, int]] = set()
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._under_way: dict[str, asyncio.Future[None] | None] = {}

    def begin(self, partitions: dict[int, Partition], claimed: set[tuple[str, int, int]]) -> None:
        """Start afresh with these partitions and the claims (topic, partition, offset) that were found."""
        self._partitions = partitions
        self._claimed = claimed

    def partition(self, number: int) -> Partition:
        """Return what is known of a partition."""
        known = self._partitions.get(number)
        if known is None:
            known = self._partitions[number] = Partition(Since(0, 0))
        return known

    @property
    def waiting(self) -> int:
        """How many sends wait for a status to tell what their answer did not."""
        return len(self._waiting)

    @property
    def planned(self) -> int:
        """How many sends of these partitions wait in [ledger]."""
        return sum(plans.waiting for each in self._partitions.values() for plans in each.plans.values())

    def has_outcome(self, partition: int, send: str) -> bool:
        """Tell whether this send is remembered with an outcome."""
        return self.partition(partition).has_outcome(send)

    def may_be_older(self, partition: int, *, caused_at_ms: int) -> Since | None:
        """Return from where on outcomes are remembered, if that of a send caused at that time may lie before it; None if it cannot."""
        since = self.partition(partition).since
        return since if since.offset and caused_at_ms < since.time_ms + _CLOCKS_APART_MS else None

    def was_told(self, record: Record, send: str) -> bool:
        """Tell whether a status, or an answer, has told of this send: then it has left, whatever else is known."""
        return self.partition(record.partition).platform_id(_ours(record, send)) is not None

    def was_claimed(self, record: Record) -> bool:
        """Tell whether a former owner claimed this record and left no outcome: it may have been sent."""
        return (record.topic, record.partition, record.offset) in self._claimed

    def may_have_left(self, record: Record, send: str, *, source: RecordPosition | None = None) -> bool:
        """Tell whether this send may have been made already.

        So it is if its record was claimed, or the one that a plan was made from (`source`), if a status told of it, whoever has claimed
        it, or if any plan says so.
        """
        return (
            self.was_claimed(record)
            or (source is not None and (source.topic, source.partition, source.offset) in self._claimed)
            or self.was_told(record, send)
            or send in self.partition(record.partition).left
        )

    def note_left(self, record: Record, send: str) -> None:
        """Remember that a plan says of this send that it may have left."""
        self.partition(record.partition).left.add(send)

    def note_outcome(self, record: Record, send: str, *, offset: int, time_ms: int) -> None:
        """Remember that this record's send has its outcome, in the record of [sent] at `offset`."""
        partition = self.partition(record.partition)
        partition.note_outcome(send, offset=offset, time_ms=time_ms)
        partition.left.discard(send)
        self._claimed.discard((record.topic, record.partition, record.offset))

    def has_plans(self, record: Record) -> bool:
        """Tell whether a send of this record's conversation waits in [ledger]: what comes later must wait behind it."""
        return record.key in self.partition(record.partition).plans

    def note_planning(self, record: Record) -> None:
        """Note that a send of this record's conversation is about to be written to [ledger]."""
        self.partition(record.partition).plans.setdefault(record.key, Plans()).producing += 1

    def note_planned(self, record: Record, *, offset: int) -> None:
        """Note at which offset of [ledger] it was written; it may be done by now."""
        partition = self.partition(record.partition)
        partition.note_planned(record.key, offset)
        plans = partition.plans[record.key]
        plans.producing = max(0, plans.producing - 1)  # whoever noted it may have been another owner of the partition: this process, before
        self._forget_plans(partition, record.key)

    def note_plan_ended(self, record: Record) -> None:
        """Note that a record of [ledger] is done."""
        partition = self.partition(record.partition)
        plans = partition.plans.setdefault(record.key, Plans())
        plans.ended = max(plans.ended, record.offset)
        plans.waiting = max(0, plans.waiting - 1)
        self._forget_plans(partition, record.key)

    @staticmethod
    def _forget_plans(partition: Partition, conversation: bytes) -> None:
        if partition.plans[conversation].is_over:
            del partition.plans[conversation]

    def note_accepted(self, record: Record, send: str, platform_id: str) -> None:
        """Remember the platform's id of a send of this record's account, from its answer or from a status; tell whoever waits for it."""
        ours = _ours(record, send)
        self.partition(record.partition).note_platform_id(ours, platform_id)
        waiting = self._waiting.get(ours)
        if waiting is not None and not waiting.done():
            waiting.set_result(platform_id)

    async def settled(self, record: Record, send: str, *, timeout_s: float) -> str:
        """Return the platform's id of a record's send as soon as a status has brought it; empty if none does within `timeout_s` seconds."""
        ours = _ours(record, send)
        known = self.partition(record.partition).platform_id(ours)
        if known is not None:
            return known
        waiting = self._waiting[ours] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError:
            return ""
        finally:
            self._waiting.pop(ours, None)

    def alone_with(self, send: str) -> "_Alone":
        """Wait, in an `async with`, while the other lane of the conversation is at this send: it may stand in [outbound-*] and [ledger]."""
        return _Alone(self._under_way, send)


def _ours(record: Record, send: str) -> str:
    return told_of(record.key, send)


class _Alone:
    """Being alone with a send. What others wait for is made by the first who has to: hardly ever anybody has."""

    __slots__ = ("_send", "_under_way")

    def __init__(self, under_way: dict[str, asyncio.Future[None] | None], send: str) -> None:
        self._under_way = under_way
        self._send = send

    async def __aenter__(self) -> None:
        under_way, send = self._under_way, self._send
        while send in under_way:
            ended = under_way[send]
            if ended is None:
                ended = under_way[send] = asyncio.get_running_loop().create_future()
            await asyncio.shield(ended)
        under_way[send] = None

    async def __aexit__(self, *_: object) -> None:
        ended = self._under_way.pop(self._send)
        if ended is not None and not ended.done():
            ended.set_result(None)
