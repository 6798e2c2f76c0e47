"""A record as our code sees it: the topic without the installation's prefix, nothing of a client library."""

from dataclasses import dataclass

from schemas.codec import Headers


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
