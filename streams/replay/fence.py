"""The fence: what stands in a replay where the live stage and the sender have effects. Other types, so that no flag can open it.

Nothing here holds settings, an address, a token or a connection.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from infra.errors import RefusedError
from infra.kafka.producer import ProduceError
from infra.kafka.record import Record
from schemas.codec import Headers, decode
from schemas.events.inbound import InboundEvent
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.topics import DEAD_LETTERS, INBOUND, OUTBOUND, RAW
from streams.replay.moment import moment
from streams.replay.store import NOW, Store, decided_of

_OUTBOUND = frozenset(topic.name for topic in OUTBOUND.values())
_IN_INBOUND: Any = InboundEvent | LinkedEvent
_NOWHERE = 0


class FencedError(ProduceError, RefusedError):
    """An effect that a replay must not have. It is a ProduceError, so the stage stops at it instead of keeping a dead letter."""


class FencedSender:
    """Stands where the sender would: it refuses every message."""

    async def handle(self, records: Sequence[Record]) -> NoReturn:
        """Raise FencedError."""
        raise FencedError(f"A replay never sends: {len(records)} records were handed to its sender.")


class FencedWriter:
    """Stands where the producer would: decisions and sends go into the comparison, everything else is refused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def produce(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> asyncio.Future[int]:  # noqa: ARG002  # the producer's
        """Note what the stage would write; FencedError for what no comparison knows."""
        if topic == INBOUND.name:
            self._note_decision(value)
        elif topic in _OUTBOUND:
            self._note_send(value)
        elif topic == RAW.name:
            self._note_routed(headers)
        elif topic != DEAD_LETTERS.name:
            raise FencedError(f"A replay writes nothing to [{topic}].")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(_NOWHERE)
        return future

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers) -> int:
        """Note what the stage would write; FencedError for what no comparison knows."""
        return await self.produce(topic, key=key, value=value, headers=headers)

    def _note_decision(self, value: bytes) -> None:
        if not moment().is_compared:
            return
        event = decode(value, _IN_INBOUND)
        if isinstance(event, InboundEvent):
            self._store.add_decided(NOW, decided_of(event))

    def _note_send(self, value: bytes) -> None:
        if moment().is_compared:
            self._store.add_send(NOW, decode(value, OutboundEvent))

    def _note_routed(self, headers: Headers) -> None:
        at = moment()
        if at.is_compared:
            self._store.note_routed(record_id(headers), made=True, partition=at.partition, offset=at.offset)


def record_id(headers: Headers) -> str:
    """Return the id in a record's headers."""
    return next((value.decode("ascii", "replace") for name, value in headers if name == "ce_id"), "")
