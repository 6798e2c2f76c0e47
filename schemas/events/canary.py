"""[raw] [outbound-high] [sent]: a record that goes the whole way and means nothing, so that standing still is seen when nobody writes.

It is version 3 of what [raw] holds: who does not know it must not take it for a message.
"""

from schemas.codec import Event
from schemas.ids import conversation_key, key_hash

_CHANNEL = "canary"
_PREFIX = f"{_CHANNEL}:".encode()


class CanaryEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=3):
    """Produced `at` (milliseconds since 1970 UTC); `conversation` is its key, the same record goes on from topic to topic."""

    id: str
    conversation: str
    at: int


def is_canary(key: bytes) -> bool:
    """Tell whether a record's key is a canary's; no channel's keys begin so."""
    return key.startswith(_PREFIX)


def canary_keys(partitions: int) -> list[str]:
    """Return a key for each partition, in their order: where one stands still the others go on."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < partitions:
        key = conversation_key(channel=_CHANNEL, account="-", contact=str(number))
        keys.setdefault(key_hash(key.encode()) % partitions, key)
        number += 1
    return [keys[partition] for partition in range(partitions)]
