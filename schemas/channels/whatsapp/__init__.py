"""WhatsApp's Cloud API as a channel: five pure translations, one module each."""

from collections.abc import Iterable, Mapping, Sequence

from schemas.channels.base import Answer, Item, Part, Request, StatusUpdate
from schemas.channels.whatsapp.answer import read_answer
from schemas.channels.whatsapp.items import parse
from schemas.channels.whatsapp.parts import CHANNEL, PREFIX
from schemas.channels.whatsapp.request import build_request
from schemas.channels.whatsapp.signature import verify
from schemas.channels.whatsapp.split import split
from schemas.channels.whatsapp.statuses import parse_statuses
from schemas.events.outbound import OutboundEvent
from schemas.events.webhook_part import WebhookPart

REPLY_WINDOW_MS = 24 * 3_600_000
"""The customer service window: after it the platform takes templates only.

https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
"""


class WhatsApp:
    """The channel; what each method promises is said in the protocol."""

    name = CHANNEL
    prefix = PREFIX
    reply_window_ms = REPLY_WINDOW_MS

    def verify(self, body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> bool:
        """Tell whether one of the secrets signed exactly these bytes."""
        return verify(body, headers, secrets)

    def split(self, body: bytes, *, received_at_ms: int) -> list[Part]:
        """Return the parts of a body, at least one; BodyRefusedError if it is not JSON."""
        return split(body, received_at_ms=received_at_ms)

    def parse(self, part: WebhookPart) -> Iterable[Item]:
        """Return the items of a part of [raw], in order, one by one."""
        return parse(part)

    def parse_statuses(self, part: WebhookPart) -> Iterable[StatusUpdate]:
        """Return the statuses of a part of [status], in order, one by one."""
        return parse_statuses(part)

    def build_request(self, outbound: OutboundEvent) -> Request:
        """Return the request that sends it; ValueError if its message is no JSON object."""
        return build_request(outbound)

    def read_answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what the platform's answer means."""
        return read_answer(status, body, headers)
