"""What a channel does, and the shapes it does it with.

A channel verifies a webhook, splits its body into parts, parses a part into items, builds the request of a send and reads its answer.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from schemas.events.inbound import Person
from schemas.events.outbound import OutboundEvent
from schemas.events.webhook_part import WebhookPart


class BodyRefusedError(ValueError):
    """A webhook body that is not JSON at all; the text says what is wrong with it. The answer is 400."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A record to store: its topic (`raw` or `status`), key, value and, for a status of ours, the key hash that picks the partition."""

    topic: str
    key: str
    value: bytes
    partition_hash: int | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a part, understood as far as our decisions need; `payload` is the platform's own JSON.

    `id` is the platform's id, or a hash of the payload where it has none: with the conversation it is what dedupe goes by.
    `at_ms` is the platform's time (our own receiving time where it has none). `answerable` says that a user wrote it and waits;
    `silence` says, where nobody does, why: the type (`reaction`, `system`, `unsupported`, `unknown`, `edit`, `revoke`, ...), the kind where
    it is no message (`echo`, `history`, `call`, `preference`, `identity`, `error`, `change`), `no-reply` (an interactive answer without
    words), `empty`, `no-identity`, `no-account`, or `unparseable` (kind `unknown`: it cannot be read, an operator should look).
    `becomes` is what the same person goes by from now on, where the item tells of a change.
    `text` is what an agent reads: the words, a caption, a button's title, or a description such as `[location 1.0,2.0]`.
    """

    kind: str
    type: str
    id: str
    at_ms: int
    direction: str
    text: str
    answerable: bool
    silence: str
    reply_to: str
    reply_to_kind: str
    person: Person
    payload: msgspec.Raw
    becomes: Person = Person()


class StatusUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One delivery status. `send` is our own id where its callback data carry one."""

    platform_id: str
    status: str
    at_ms: int
    recipient: str
    participant: str = ""
    send: str = ""
    error_code: int = 0
    error: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP request of a send, relative to the platform's base URL."""

    path: str
    body: bytes


class Outcome(enum.Enum):
    """What an answer means for the send."""

    ACCEPTED = "accepted"
    RETRY = "retry"  # certainly not sent: the platform says so in its own error body, or the bytes never left
    REJECTED = "rejected"  # certainly not sent, and it will never be
    UNKNOWN = "unknown"  # it may have been sent


class Pause(enum.Enum):
    """What else must wait when a send is to be retried."""

    NONE = "none"
    PAIR = "pair"
    NUMBER = "number"
    APP = "app"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A platform's answer, understood. `throttled` answers are not tries: they pause the pair, the number or the app."""

    outcome: Outcome
    platform_id: str = ""
    recipient: str = ""
    error_code: int = 0
    error: str = ""
    pause: Pause = Pause.NONE
    throttled: bool = False
    retry_after_s: float = 0.0


class Channel(Protocol):
    """One platform. Every method is a pure function of its arguments.

    `reply_window_ms` is for how long after a user's message it may be answered freely, milliseconds.
    """

    name: str
    prefix: str
    reply_window_ms: int

    def verify(self, body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> bool:
        """Tell whether one of the secrets signed exactly these bytes."""

    def split(self, body: bytes, *, received_at_ms: int) -> list[Part]:
        """Return the parts of a body, at least one; BodyRefusedError if it is not JSON.

        JSON that the decoder refuses is a part whose value is the body itself: it fails to decode and is to be dead-lettered.
        """

    def parse(self, part: WebhookPart) -> Iterable[Item]:
        """Return the items of a part of [raw], in order; never raises."""

    def parse_statuses(self, part: WebhookPart) -> Iterable[StatusUpdate]:
        """Return the statuses of a part of [status], in order; never raises."""

    def build_request(self, outbound: OutboundEvent) -> Request:
        """Return the request that sends it; ValueError if its message is no JSON object."""

    def read_answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what the platform's answer means; never raises."""
