"""What a message says, in words that an agent can read: its text, a caption, a button's title, or a description in brackets."""

from collections.abc import Callable
from typing import Any

import msgspec

from schemas.channels.whatsapp.reading import objects, read_item, short, sub, text

TEXT_LENGTH_MAX = 100_000
"""Longer text is cut here, and is whole in the payload: both have to fit into one record."""
_DESCRIPTION_LENGTH_MAX = 1_000
_LISTED_MAX = 20

Tree = dict[str, Any]


def words_of(message: Tree) -> str:
    """Return what a message of any type says; a type nobody knows says its name."""
    kind = text(message, "type")
    describe = _WORDS.get(kind)
    words = describe(message) if describe is not None else ""
    return words[:TEXT_LENGTH_MAX] or (_bracketed(short(kind, 64)) if kind and kind not in _SPEECHLESS else "")


def _bracketed(*words: str) -> str:
    said = " ".join(word for word in words if word)
    return f"[{short(said, _DESCRIPTION_LENGTH_MAX)}]"


def _text(message: Tree) -> str:
    return text(sub(message, "text"), "body")


def _button(message: Tree) -> str:
    button = sub(message, "button")
    return text(button, "text") or text(button, "payload")


def _interactive(message: Tree) -> str:
    interactive = sub(message, "interactive")
    reply = sub(interactive, text(interactive, "type"))
    return text(reply, "title") or _form(reply) or text(reply, "response")


def _form(reply: Tree) -> str:
    """Return a filled-in form: its answers, which are JSON in text; where they are not, its body (a word such as `Sent`) and that text."""
    answers = text(reply, "response_json")
    filled = read_item(msgspec.Raw(answers.encode("utf-8", "replace"))) or {}
    said = [f"{name}: {value}" for name in filled if name != "flow_token" and (value := _answer(filled[name]))]
    return ", ".join(said) or " ".join(word for word in (text(reply, "body"), answers) if word)


def _answer(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _media(message: Tree) -> str:
    kind = text(message, "type")
    media = sub(message, kind)
    name = "voice message" if kind == "voice" or (kind == "audio" and media.get("voice") is True) else kind
    caption = text(media, "caption")
    filename = text(media, "filename")
    if caption and not filename:
        return caption
    described = _bracketed(name, filename)
    return f"{described} {caption}" if caption else described


def _location(message: Tree) -> str:
    location = sub(message, "location")
    place = ",".join(part for part in (text(location, "latitude"), text(location, "longitude")) if part)
    return _bracketed("location", place, text(location, "name"), text(location, "address"))


def _contacts(message: Tree) -> str:
    people = []
    for person in objects(message, "contacts")[:_LISTED_MAX]:
        name = sub(person, "name")
        phones = [text(phone, "phone") or text(phone, "wa_id") for phone in objects(person, "phones")[:_LISTED_MAX]]
        people.append(" ".join(word for word in (text(name, "formatted_name") or text(name, "first_name"), *phones) if word))
    return _bracketed("contacts", ", ".join(person for person in people if person))


def _order(message: Tree) -> str:
    order = sub(message, "order")
    products = [
        f"{text(product, 'quantity') or '1'} x {text(product, 'product_retailer_id')}"
        for product in objects(order, "product_items")[:_LISTED_MAX]
    ]
    described = _bracketed("order", ", ".join(products))
    said = text(order, "text")
    return f"{described} {said}" if said else described


def _reaction(message: Tree) -> str:
    return text(sub(message, "reaction"), "emoji")


def _edit(message: Tree) -> str:
    inner = sub(message, "edit", "message")
    # One level only: an edit of an edit is nothing the platform sends.
    return words_of(inner) if text(inner, "type") != "edit" else ""


def _revoke(_: Tree) -> str:
    return "[message deleted]"


def _system(message: Tree) -> str:
    system = sub(message, "system")
    return text(system, "body") or _bracketed("system", text(system, "type"))


def _unsupported(message: Tree) -> str:
    errors = objects(message, "errors")
    title = (text(errors[0], "title") or text(errors[0], "message")) if errors else ""
    return _bracketed("unsupported message", text(sub(message, "unsupported"), "type") or title)


_SPEECHLESS = frozenset({"text", "reaction"})
"""Types whose words may well be none: an empty text, a reaction taken back."""

_WORDS: dict[str, Callable[[Tree], str]] = {
    "text": _text,
    "button": _button,
    "interactive": _interactive,
    "image": _media,
    "video": _media,
    "audio": _media,
    "voice": _media,
    "document": _media,
    "sticker": _media,
    "location": _location,
    "contacts": _contacts,
    "order": _order,
    "reaction": _reaction,
    "edit": _edit,
    "revoke": _revoke,
    "system": _system,
    "unsupported": _unsupported,
    "unknown": _unsupported,
}
