"""The request of a send: the caller's own message object in the platform's envelope, with our callback data."""

import unicodedata
from urllib.parse import quote

import msgspec

from schemas.channels.base import Request
from schemas.events.outbound import OutboundEvent
from schemas.ids import callback_data

TEXT_LENGTH_MAX = 4_096
"""The platform refuses a longer text."""

_ELLIPSIS = "…"
_LOOK_BACK = 400  # how far before the limit a paragraph, a sentence or a word may end
_ENDINGS = ("\n\n", "\n", ". ", "! ", "? ", "。", " ")  # in falling order of how well a text can end there
_JOINER = "\u200d"

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def build_request(outbound: OutboundEvent) -> Request:
    """Return the request that sends it; ValueError if its message is no JSON object.

    What we write (recipient, callback data) counts over keys of the same name in the message.
    """
    try:
        message = _members(outbound.message)
    except msgspec.DecodeError as error:
        raise ValueError(f"The message must be a JSON object such as {{'type': 'text', ...}}: {error}") from error
    if "text" in message:
        message["text"] = _fitting(message["text"])
    body: dict[str, object] = {
        "messaging_product": "whatsapp",
        "recipient_type": "group" if outbound.to_kind == "group" else "individual",
        "recipient" if outbound.to_kind == "user" else "to": outbound.to,
    }
    ours = {*body, "to", "recipient", "biz_opaque_callback_data"}
    body |= {name: value for name, value in message.items() if name not in ours}
    body["biz_opaque_callback_data"] = callback_data(send=outbound.id, conversation=outbound.conversation)
    return Request(path=f"{quote(outbound.account, safe='')}/messages", body=msgspec.json.encode(body))


def _fitting(raw: msgspec.Raw) -> msgspec.Raw:
    """Return the `text` object with a body that is not too long; anything odd goes as it is, for the platform to judge."""
    try:
        words = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw
    body = words.get("body") if isinstance(words, dict) else None
    if not isinstance(body, str) or len(body) <= TEXT_LENGTH_MAX:
        return raw
    return msgspec.Raw(msgspec.json.encode(words | {"body": cut(body)}))


def cut(words: str, length: int = TEXT_LENGTH_MAX) -> str:
    """Return at most `length` characters, ending with an ellipsis after a paragraph, a sentence or a word where one ends near the limit."""
    if len(words) <= length:
        return words
    end = length - len(_ELLIPSIS)
    for ending in _ENDINGS:
        found = words.rfind(ending, max(0, end - _LOOK_BACK), end)
        if found > 0:
            end = found + len(ending.rstrip())
            break
    else:
        while end > 0 and _continues(words, end):
            end -= 1
    return words[:end].rstrip() + _ELLIPSIS


def _continues(words: str, at: int) -> bool:
    """Tell whether the character at `at` belongs to the one before it, as accents and the parts of an emoji do."""
    return words[at - 1] == _JOINER or words[at] == _JOINER or unicodedata.category(words[at]) in ("Mn", "Me", "Mc", "Sk")
