"""Records of topics as a page lists them: what each says in a line, and its content as JSON with secrets masked. Pure."""

import json

import msgspec

from infra.decoded import SECRET_TOPICS, decoded, readable
from infra.kafka.record import Record
from infra.record_lines import summary
from schemas.events.canary import is_canary

CONTENT_LENGTH_MAX = 4_000
"""Characters of a record's content that a list shows; the record's own page has more of it."""


class ShownRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a list; `conversation` is empty where its key is none, `order` puts records in the order of their time."""

    id: str
    order: str
    topic: str
    partition: int
    offset: int
    at_ms: int
    key: str
    conversation: str
    says: str
    content: str
    size: int


def shown_record(record: Record) -> ShownRecord:
    """Return what is shown of a record; never raises."""
    found = decoded(record)
    key = readable(record.key)
    content = json.dumps(found.content, indent=2, ensure_ascii=False) if not found.problem and found.content is not None else ""
    if not content and record.topic not in SECRET_TOPICS:
        content = readable(record.value[:CONTENT_LENGTH_MAX])
    return ShownRecord(
        id=f"r-{record.topic}-{record.partition}-{record.offset}",
        order=f"{record.timestamp_ms:015d}.{record.partition:06d}.{record.offset:019d}",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp_ms,
        key=key,
        conversation=key if ":" in key and not is_canary(record.key) else "",
        says=summary(found),
        content=content if len(content) <= CONTENT_LENGTH_MAX else f"{content[:CONTENT_LENGTH_MAX]}…",
        size=len(record.value),
    )
