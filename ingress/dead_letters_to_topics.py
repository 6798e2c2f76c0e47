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

from infra.cassandra.dead_letters import OPEN, Entry, Filter, read_dead_letters, redriven_rows
from infra.cassandra.reading import CursorError
from infra.cassandra.rows import write_rows
from infra.cassandra.sends import UNKNOWN, Content, Send, read_send
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.clock import Clock
from infra.kafka.log_reader import LogReader
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from ingress.audit import Audit
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


class Redriven(NamedTuple):
    """What became of a page of letters; `after` asks for the next page, None on the last one."""

    done: list[tuple[Entry, Planned]]
    refused: list[tuple[Entry, str]]
    after: str | None


class Redriver:
    """Redrives dead letters, one after the other, with their bytes from the log."""

    def __init__(self, *, cassandra: Cassandra, producer: Producer, reader: LogReader, clock: Clock, audit: Audit) -> None:
        self._audit = audit
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
            detail = planned.resend.id if planned.resend is not None else planned.topic
            await self._audit.note("redrive", entry.id, tenant=entry.tenant, conversation=entry.conversation, detail=detail)
            await self._produce(entry, planned)
        return planned

    async def redrive_page(self, *, tenant: str, wanted: Filter, after: str, limit: int, dry_run: bool) -> Redriven:
        """Redrive a page of a tenant's open letters, oldest first; `after` (empty: from the oldest on) as the page before it said.

        What fails again while this goes on is a new letter, and not among those meant by the first page. Raises CursorError for an
        `after` that is none, and what `redrive` raises but RefusedRedriveError.
        """
        until_ms, cursor = read_after(after, self._clock.now_ms())
        meant_ones = msgspec.structs.replace(wanted, state=OPEN)
        page = await read_dead_letters(self._cassandra, tenant=tenant, wanted=meant_ones, after=cursor, limit=limit)
        meant = [entry for entry in page.entries if entry.at_ms <= until_ms]
        done, refused = await self.redrive_all(meant, again=False, dry_run=dry_run)
        more = page.cursor is not None and len(meant) == len(page.entries)
        return Redriven(done, refused, f"{until_ms}.{page.cursor}" if more else None)

    async def redrive_all(
        self, entries: Sequence[Entry], *, again: bool, dry_run: bool
    ) -> tuple[list[tuple[Entry, Planned]], list[tuple[Entry, str]]]:
        """Redrive letters, given oldest first, in the order of their events; return those redriven, and those refused with the reason."""
        done: list[tuple[Entry, Planned]] = []
        refused: list[tuple[Entry, str]] = []
        for entry in in_order(entries):
            try:
                done.append((entry, await self.redrive(entry, again=again, dry_run=dry_run)))
            except RefusedRedriveError as error:
                refused.append((entry, str(error)))
        return done, refused

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


def read_after(after: str, now_ms: int) -> tuple[int, str]:
    """Return until when (milliseconds since 1970) letters are meant, and the cursor to go on behind; CursorError if it is none."""
    if not after:
        return now_ms, ""
    until_ms, _, cursor = after.partition(".")
    if not until_ms.isascii() or not until_ms.isdigit() or not cursor:
        raise CursorError(f"{after[:60]!r} is no `after` that an answer gave out")
    return int(until_ms[:20]), cursor


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
