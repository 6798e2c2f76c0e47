"""[dead-letters]: what could not be handled. The value is the original bytes; cause and origin are in the headers.

Headers, as Kafka Connect and Spring have the habit: so the bytes stay what they were, and redriving is copying them back.
"""

import msgspec

from schemas.codec import Headers, cloud_event_headers
from schemas.ids import event_id

_PREFIX = "ottla_dl_"
_STACK_LENGTH_MAX = 8_000


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where an event failed; `cause` is a short stable word to group by, `error` the sentence, `at` milliseconds since 1970."""

    stage: str
    cause: str
    error: str
    topic: str
    partition: int
    offset: int
    attempts: int
    at: int
    stack: str = ""


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """Return the headers that say all of `letter`; the stack is cut at 8,000 characters."""
    fields = msgspec.structs.asdict(letter) | {"stack": letter.stack[-_STACK_LENGTH_MAX:]}
    headers = cloud_event_headers(
        event_id=event_id(letter.stage, letter.topic, str(letter.partition), str(letter.offset), letter.cause),
        event_type="ottla.dead-letter",
        source=letter.stage,
        time_ms=letter.at,
    )
    return headers + [(_PREFIX + name, str(value).encode("utf-8", "backslashreplace")) for name, value in fields.items()]


def read_dead_letter(headers: Headers) -> DeadLetter:
    """Return what the headers of a dead letter say; ValueError if they are not ones."""
    fields = {name.removeprefix(_PREFIX): value.decode() for name, value in headers if name.startswith(_PREFIX)}
    try:
        return msgspec.convert(fields, DeadLetter, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not the headers of a dead letter: {error}") from error
