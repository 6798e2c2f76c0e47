"""A record as our code sees it: the topic without the installation's prefix, nothing of a client library."""

from dataclasses import dataclass
from typing import Any

from schemas.codec import Headers

PLACE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log; `timestamp_ms` is milliseconds since 1970 UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int

    @property
    def places(self) -> int:
        """How many places it takes among those held in memory: nearly all take one, and a large one as many as small ones of its size."""
        return 1 + len(self.value) // PLACE_BYTES


def record_of(found: Any, topic: str) -> Record:
    """Return what aiokafka has read as a record of the topic of this name."""
    return Record(
        topic=topic,
        partition=found.partition,
        offset=found.offset,
        key=found.key or b"",
        value=found.value or b"",
        headers=list(found.headers),
        timestamp_ms=found.timestamp,
    )
