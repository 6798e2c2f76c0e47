"""[inbound] holds this beside its items: from now on the events of one key belong to the conversation of another."""

from schemas.codec import Event


class LinkedEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=2):
    """The key `alias` leads to `conversation`, since `at` (milliseconds since 1970 UTC).

    `is_joined`: what was said under the alias before belongs to the conversation too; false for a phone number that changed hands.
    It is version 2 of what [inbound] holds.
    """

    alias: str
    conversation: str
    at: int
    is_joined: bool = False
