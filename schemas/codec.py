"""How events become bytes and back, and the CloudEvents headers every record carries.

Records are JSON so that any Kafka tool can read them. The field `v` is the version of the event's shape: it is msgspec's tag, always
written and checked on reading, so a record of a version this code does not know is refused rather than half understood.
CloudEvents 1.0, Kafka protocol binding, binary mode: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar, get_args

import msgspec

Headers = list[tuple[str, bytes]]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """Base of every event: immutable, with its version written as `v`."""


class DecodeError(ValueError):
    """Bytes that are not the event they should be; the text says why."""


E = TypeVar("E", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder] = {}  # type: ignore[type-arg]  # one decoder for each event type


def encode(event: msgspec.Struct) -> bytes:
    """Return the event as JSON."""
    return _encoder.encode(event)


def decode(value: bytes, event_type: type[E]) -> E:
    """Return the event in `value`; DecodeError if it is not one. Where a topic holds several, `event_type` is their union."""
    decoder = _decoders.get(event_type)
    if decoder is None:
        decoder = _decoders[event_type] = msgspec.json.Decoder(event_type)
    try:
        decoded: E = decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        names = " or ".join(each.__name__ for each in get_args(event_type) or (event_type,))
        raise DecodeError(f"{names}: {error}") from error
    return decoded


def cloud_event_headers(*, event_id: str, event_type: str, source: str, time_ms: int) -> Headers:
    """Return the CloudEvents headers of a record.

    `event_type` is the topic's event in dotted form such as `ottla.outbound`, `source` the role that wrote it, `time_ms` when.
    """
    seconds, milliseconds = divmod(time_ms, 1000)
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", f"/ottla/{source}".encode()),
        ("ce_time", f"{_second(seconds)}.{milliseconds:03}+00:00".encode()),
    ]


@lru_cache(maxsize=64)  # thousands of records are of one second
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
