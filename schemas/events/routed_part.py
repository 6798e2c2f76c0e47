"""The other record of [raw]: an item that streams have deduplicated under its own key and keyed again, or a word about a key.

Its key is where it goes; `conversation` stays the item's own key. It is version 2 of what [raw] holds: code that knows parts alone would
handle it as a new webhook, so it must not read it.
"""

from typing import Any, Literal

import msgspec

from schemas.events.inbound import RecordPosition
from schemas.events.webhook_part import WebhookPart


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a record was keyed again.

    `ask` (of a phone number): whose conversation is it? Asked by the part's own key, first seen at `since`.
    `answer`: it is `canonical`, says the key `other`.
    `deliver`: to be handled in the conversation that the record's key names.
    `link` (no item): the events of the record's key belong to `canonical`, together with those of the key `other`; `is_firm` if whatever
    was known before. `is_phone`: the record's key is a phone's.
    """

    step: Literal["ask", "answer", "deliver", "link"]
    canonical: str = ""
    other: str = ""
    since: int = 0
    is_phone: bool = False
    is_firm: bool = False


class RoutedPart(WebhookPart, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=2):
    """A record of [raw] that streams wrote; `origin` is the record that ingress wrote."""

    route: Route
    origin: RecordPosition


IN_RAW: Any = WebhookPart | RoutedPart
"""What a record of [raw] may be."""
