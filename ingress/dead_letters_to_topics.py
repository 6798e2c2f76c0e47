"""[dead-letters] -> the topics they came from: redriving, on demand.

A redriven event is its original bytes, with their key, once more in the partition they came from; headers say of which dead letter it is
and which items of it failed. The ids of what it leads to come from their causes, so that nothing is sent twice by it. A send that the
platform rejected goes out as a new send instead, as `ottla sends resend` makes it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import structlog

from infra.cassandra.dead_letters import Entry, redriven_rows
from infra.cassandra.rows import write_rows
from infra.cassandra.sends import UNKNOWN, Content, Send, read_send
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.clock import Clock
from infra.kafka.log_reader import LogReader
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from ingress.retry_to_outbound import note_resend, refusal, resend_of
from schemas.codec import DecodeError, Headers, decode, encode
from schemas.events.dead_letter import dead_letter_id, read_dead_letter, redrive_headers
from schemas.events.outbound import OutboundEvent
from schemas.events.planned import PlannedEvent
from schemas.topics import DEAD_LETTERS, INBOUND, LEDGER, OUTBOUND, RAW, SENT, STATUS

log = structlog.get_logger()

_OUTBOUND = frozenset(topic.name for topic in OUTBOUND.values())
_SENDS = _OUTBOUND | {LEDGER.name}
_REDRIVABLE = _SENDS | {RAW.name, STATUS.name, INBOUND.name, SENT.name}
_SENDER, _REJECTED = "sender", "rejected"


class RefusedRedriveError(Exception):
    """A dead letter that is not redriven; the text is one sentence that says why."""


class Planned(NamedTuple):
    """A record that a redrive produces; `resend` is the new send in it, where it is one."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers
    resend: OutboundEvent | None = None


class Redriver:
    """Redrives dead letters, one after the other, with their bytes from the log."""

    def __init__(self, *, cassandra: Cassandra, producer: Producer, reader: LogReader, clock: Clock) -> None:
        self._cassandra = cassandra
        self._producer = producer
        self._reader = reader
        self._clock = clock

    async def redrive(self, entry: Entry, *, again: bool, dry_run: bool) -> Planned:
        """Produce a letter's event again, wait for the acknowledgement and note it; with `dry_run` only tell what would be produced.

        Raises RefusedRedriveError, ProduceError when the log does not take it, CassandraAwayError and KafkaUnreachableError.
        """
        why_not = refusal_of(entry, again=again)
        if why_not:
            raise RefusedRedriveError(why_not)
        record = await self._reader.read(entry.letter_partition, entry.letter_offset)
        if record is None or dead_letter_id(record.headers, partition=record.partition, offset=record.offset) != entry.id:
            raise RefusedRedriveError(
                f"The original bytes of {entry.id} are not in the log any more: [{DEAD_LETTERS.name}] is kept 35 days."
            )
        if entry.partition >= await self._producer.partitions(entry.topic):
            raise RefusedRedriveError(f"{entry.id} comes from partition {entry.partition} of {entry.topic}, which there is not.")
        now_ms = self._clock.now_ms()
        planned = await self._resend(entry, record, again=again, now_ms=now_ms) if is_rejected(entry) else redriven(entry, record, now_ms)
        if not dry_run:
            await self._produce(entry, planned)
        return planned

    async def _resend(self, entry: Entry, record: Record, *, again: bool, now_ms: int) -> Planned:
        event = _planned(entry, record).send if entry.topic == LEDGER.name else _outbound(entry, record)
        send = await read_send(self._cassandra, tenant=entry.tenant, send=event.id)
        if send is None:
            raise RefusedRedriveError(f"History has not the outcome of {event.id} yet: redrive {entry.id} again in a few seconds.")
        # The same id once more is the same send: the sender passes over it.
        why_not = refusal(_as_if_not_resent(send) if again else send)
        if why_not:
            raise RefusedRedriveError(why_not)
        raw = (event.raw.topic, event.raw.partition, event.raw.offset) if event.raw is not None else None
        resend = msgspec.structs.replace(resend_of(send, Content(bytes(event.message), raw), now_ms=now_ms), lookup=True)
        headers = redrive_headers(entry.id, "", time_ms=now_ms)
        return Planned(OUTBOUND[resend.priority].name, entry.partition, record.key, encode(resend), headers, resend)

    async def _produce(self, entry: Entry, planned: Planned) -> None:
        await self._producer.send(
            planned.topic, key=planned.key or None, value=planned.value, headers=planned.headers, partition=planned.partition
        )
        log.info("redriven", letter=entry.id, topic=planned.topic, partition=planned.partition)
        if planned.resend is not None:
            await note_resend(self._cassandra, planned.resend)
        try:
            await write_rows(self._cassandra, redriven_rows(entry, now_ms=self._clock.now_ms()))
        except CassandraAwayError as error:
            # It is done and may be done again: what follows from it has the same ids.
            log.warning("redriven, but it could not be noted: it is still listed as open", letter=entry.id, error=str(error))


def refusal_of(entry: Entry, *, again: bool) -> str:
    """Return the sentence that says why a letter must not be redriven; empty if it may be."""
    if entry.topic not in _REDRIVABLE:
        return f"{entry.id} cannot be redriven: it does not say which topic of ours it came from."
    if entry.redriven_at_ms and not again:
        return f"{entry.id} was redriven already: ask for it again on purpose (`again=true`, or --again)."
    return ""


def is_rejected(entry: Entry) -> bool:
    """Tell whether a letter is of a send that the platform refused: the same bytes again would be the same send, which has its outcome."""
    return entry.stage == _SENDER and entry.topic in _SENDS and entry.cause.startswith(_REJECTED)


def redriven(entry: Entry, record: Record, now_ms: int) -> Planned:
    """Return the original record of a letter as it is produced again; RefusedRedriveError for a send that may have left."""
    topic, value = entry.topic, record.value
    headers = redrive_headers(entry.id, read_dead_letter(record.headers).items, time_ms=now_ms)
    if topic in _OUTBOUND:
        value = _looked_up(value)
    elif topic == LEDGER.name:
        # What waits in the ledger is counted by the sender that put it there: it begins anew where it came from.
        planned = _planned(entry, record)
        if planned.state == UNKNOWN:
            raise RefusedRedriveError(f"{entry.id} is of a send whose answer was lost: see `ottla sends list`.")
        topic, value = OUTBOUND[planned.send.priority].name, encode(msgspec.structs.replace(planned.send, lookup=True))
    return Planned(topic, entry.partition, record.key, value, headers)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return letters, given oldest first, so that those of one conversation and topic stand in the order their events had in the log.

    Clocks of two workers differ; offsets do not lie.
    """
    streams: dict[tuple[str, str, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        streams[entry.conversation, entry.topic, entry.partition].append(entry)
    ordered = {stream: iter(sorted(letters, key=lambda each: each.offset)) for stream, letters in streams.items()}
    return [next(ordered[entry.conversation, entry.topic, entry.partition]) for entry in entries]


def _outbound(entry: Entry, record: Record) -> OutboundEvent:
    try:
        return decode(record.value, OutboundEvent)
    except DecodeError as error:
        raise RefusedRedriveError(f"{entry.id} holds no send that can be sent again ({error}).") from None


def _planned(entry: Entry, record: Record) -> PlannedEvent:
    try:
        return decode(record.value, PlannedEvent)
    except DecodeError as error:
        raise RefusedRedriveError(f"{entry.id} holds no send that can be sent again ({error}).") from None


def _looked_up(value: bytes) -> bytes:
    """Return a send that says that its id may be old; what is no send as it is: nobody will send it."""
    try:
        return encode(msgspec.structs.replace(decode(value, OutboundEvent), lookup=True))
    except DecodeError:
        return value


def _as_if_not_resent(send: Send) -> Send:
    return msgspec.structs.replace(send, resent_as="")
