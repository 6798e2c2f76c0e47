"""[dead-letters]: what could not be handled. The value is the original bytes; cause and origin are in the headers.

Headers, as Kafka Connect and Spring have the habit: so the bytes stay what they were, and redriving is copying them back.
"""

import re
from typing import Annotated, NamedTuple

import msgspec

from schemas.codec import Headers, cloud_event_headers
from schemas.events.config import DEFAULT_TENANT
from schemas.ids import event_id

STACK_LENGTH_MAX = 8_000
ERROR_LENGTH_MAX = 2_000
ITEMS_MAX = 1_000
"""Of how many failed items a dead letter names: a record's headers have to stay small."""

_PREFIX = "ottla_dl_"
_ID = "ce_id"
_REDRIVE = "ottla_redrive"
_REDRIVE_ITEMS = "ottla_redrive_items"
_OUR_ID = re.compile(r"[0-9a-f]{32}")


# What a header claims has to fit into a table, and its time has to be a date that can be shown: up to the year 9999.
_Int = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_BigInt = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where an event failed; `cause` is a short stable word to group by, `error` the sentence, `at` milliseconds since 1970.

    `items` are the ids of the [inbound] events that failed, joined by commas; empty: all that the record holds. `redrive_of` is the
    dead letter whose redrive failed again.
    """

    stage: str
    cause: str
    error: str
    topic: str
    partition: _Int
    offset: _BigInt
    attempts: _Int
    at: _Time
    stack: str = ""
    tenant: str = DEFAULT_TENANT
    items: str = ""
    redrive_of: str = ""


class Redrive(NamedTuple):
    """What the headers of a redriven record say: of which dead letter it is, and which items of it are meant (none named: all)."""

    letter: str
    items: frozenset[str]

    def asks_for(self, item: str) -> bool:
        """Tell whether the item with this id of an [inbound] event is to be handled again."""
        return not self.items or item in self.items


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """Return the headers that say all of `letter`; the stack is cut to its last 8,000 characters, the error to its first 2,000."""
    fields = msgspec.structs.asdict(letter)
    fields |= {"stack": letter.stack[-STACK_LENGTH_MAX:], "error": letter.error[:ERROR_LENGTH_MAX]}
    headers = cloud_event_headers(
        event_id=event_id(letter.stage, letter.topic, str(letter.partition), str(letter.offset), letter.cause),
        event_type="ottla.dead-letter",
        source=letter.stage,
        time_ms=letter.at,
    )
    return headers + [(_PREFIX + name, str(value).encode("utf-8", "backslashreplace")) for name, value in fields.items()]


def read_dead_letter(headers: Headers) -> DeadLetter:
    """Return what the headers of a dead letter say; ValueError if they are not ones."""
    fields = {name.removeprefix(_PREFIX): (value or b"").decode() for name, value in headers if name.startswith(_PREFIX)}
    try:
        return msgspec.convert(fields, DeadLetter, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not the headers of a dead letter: {error}") from error


def dead_letter_id(headers: Headers, *, partition: int, offset: int) -> str:
    """Return the id of the dead letter that stands there: its own, or one made from where it stands if it has none of ours."""
    own = next((value for name, value in headers if name == _ID), b"").decode("utf-8", "replace")
    return own if _OUR_ID.fullmatch(own) else event_id("dead-letters", str(partition), str(offset))


def redrive_headers(letter: str, items: str, *, time_ms: int) -> Headers:
    """Return the headers of a record that is produced again because of the dead letter of this id; `items` as in that letter."""
    headers = cloud_event_headers(
        event_id=event_id("redrive", letter, str(time_ms)), event_type="ottla.redrive", source="ingress", time_ms=time_ms
    )
    return [*headers, (_REDRIVE, letter.encode()), (_REDRIVE_ITEMS, items.encode())]


def read_redrive(headers: Headers) -> Redrive | None:
    """Return what a record's headers say of its redrive; None if it is not redriven."""
    found = {name: value or b"" for name, value in headers if name in (_REDRIVE, _REDRIVE_ITEMS)}
    letter = found.get(_REDRIVE, b"").decode("utf-8", "replace")
    if not letter:
        return None
    items = found.get(_REDRIVE_ITEMS, b"").decode("utf-8", "replace")
    return Redrive(letter, frozenset(item for item in items.split(",") if item))
