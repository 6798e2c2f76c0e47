"""Reads what was decided and sent then, out of [inbound], [outbound-*] and [sent]."""

from collections.abc import Callable
from typing import Any

import structlog

from infra.kafka.bounded import BoundedReader
from infra.kafka.record import Record
from schemas.codec import DecodeError, decode
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.topics import INBOUND, SENT
from streams.decisions import ANSWER_STEP, FALLBACK_STEP, REDRIVE_STEP
from streams.replay.plan import Bounds, Plan
from streams.replay.store import WAS, Store, decided_of

log = structlog.get_logger()

Wanted = Callable[[bytes], bool]
"""Tells by a record's key whether its conversation is replayed."""

_STEPS = frozenset({ANSWER_STEP, FALLBACK_STEP, REDRIVE_STEP})
_IN_INBOUND: Any = InboundEvent | LinkedEvent


async def load_recorded(reader: BoundedReader, plan: Plan, store: Store, wanted: Wanted, advanced: Callable[[int], None]) -> None:
    """Put the decisions of the compared time, and the sends of all of it, into the store."""
    bounds = plan.bounds()
    async for records in reader.read(plan.recorded):
        for record in records:
            if wanted(record.key):
                note_recorded(record, store, bounds)
        advanced(len(records))
        store.commit()


def note_recorded(record: Record, store: Store, bounds: dict[int, Bounds]) -> None:
    """Put what a record says of then into the store; one that is not what its topic holds is passed over."""
    try:
        if record.topic == INBOUND.name:
            event = decode(record.value, _IN_INBOUND)
            if isinstance(event, InboundEvent) and is_within(bounds, event.raw.partition, event.raw.offset):
                store.add_decided(WAS, decided_of(event))
        elif record.topic == SENT.name:
            sent = decode(record.value, SentEvent)
            if sent.agent:
                store.add_sent(sent)
        else:
            outbound = decode(record.value, OutboundEvent)
            # What a person sent, or had sent again, is no decision of the stage.
            if outbound.step in _STEPS:
                store.add_send(WAS, outbound)
    except DecodeError as error:
        log.warning("record skipped", topic=record.topic, partition=record.partition, offset=record.offset, error=str(error))


def is_within(bounds: dict[int, Bounds], partition: int, offset: int) -> bool:
    """Tell whether what ingress wrote there is compared."""
    known = bounds.get(partition)
    return known is not None and known.first <= offset < known.last
