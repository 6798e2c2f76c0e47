"""A part of [raw] into items: what each one is, who wrote it, whether somebody waits for an answer, and where that goes.

One bad item never holds up its siblings: what cannot be read is an item of kind `unknown` whose silence says `unparseable`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.channels.base import Item
from schemas.channels.whatsapp.identity import identity, message_contact
from schemas.channels.whatsapp.parts import PREFIX
from schemas.channels.whatsapp.people import NOBODY, People, Sides
from schemas.channels.whatsapp.reading import read_item, short, sub, text, time_ms
from schemas.channels.whatsapp.words import words_of
from schemas.events.inbound import Person
from schemas.events.webhook_part import Change, WebhookPart
from schemas.ids import conversation_key, event_id

_NO_ACCOUNT = "-"
_ID_LENGTH_MAX = 256
_TYPE_LENGTH_MAX = 64

_USERS_WRITE = frozenset(
    {"text", "button", "interactive", "image", "video", "audio", "voice", "document", "sticker", "location", "contacts", "order"}
)
_REPLIES = frozenset({"button_reply", "list_reply", "nfm_reply"})
_SILENT_TYPES = frozenset({"reaction", "system", "unsupported", "edit", "revoke", "request_welcome", "ephemeral"})
_CHANGES_OF_NAME = frozenset({"user_changed_number", "user_changed_user_id"})
_PLACEHOLDER = "media_placeholder"
_NOTICES = frozenset({"change", "error", "unknown"})
"""Kinds without an id of their own, of which the same text may come again and mean something new."""


def parse(part: WebhookPart) -> Iterator[Item]:
    """Yield the items of a part of [raw], in order; never raises, whatever the items hold."""
    people = People(part)
    for change in part.changes:
        if change.kind == "status":
            continue
        read = _READERS.get(change.kind, _notice)
        for raw in change.items:
            tree = read_item(raw)
            if tree is None:
                yield _unparseable(part, change, raw)
            else:
                yield read(part, change, raw, tree, people)


def _message(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    sides = people.sides_of_message(tree)
    words = words_of(tree)
    silence = _silence(part, tree, sides, words)
    if text(tree, "type") != "system":
        return _written(part, change, raw, tree, words=words, sides=sides, direction="in", silence=silence)
    becomes = _becomes(sub(tree, "system"))
    previous = identity(sub(tree, "system").get("previous_user_id"))
    if previous and not sides.reply_to:
        sides = sides._replace(person=people.known(previous, ""))
    return _written(part, change, raw, tree, words=words, sides=sides, direction="in", silence=silence, becomes=becomes)


def _becomes(system: dict[str, Any]) -> Person:
    """Return what a person goes by after a change of number or user id; nothing for other news."""
    if text(system, "type") not in _CHANGES_OF_NAME:
        return NOBODY
    phone = identity(system.get("wa_id")) or identity(system.get("new_wa_id"))
    return Person(phone=short(phone), user_id=short(identity(system.get("user_id"))))


def _silence(part: WebhookPart, tree: dict[str, Any], sides: Sides, words: str) -> str:
    """Return why nobody waits for an answer to a message; empty if somebody does."""
    if part.account == _NO_ACCOUNT:
        return "no-account"
    type_ = text(tree, "type")
    if type_ not in _USERS_WRITE:
        return type_.replace("_", "-") if type_ in _SILENT_TYPES else "unknown"
    if type_ == "interactive" and text(sub(tree, "interactive"), "type") not in _REPLIES:
        return "no-reply"
    if not sides.reply_to:
        return "no-identity"
    return "" if words.strip() else "empty"


def _echo(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    sides = people.sides_of_echo(tree)
    silence = "no-account" if part.account == _NO_ACCOUNT else "echo" if sides.reply_to else "no-identity"
    return _written(part, change, raw, tree, words=words_of(tree), sides=sides, direction="out", silence=silence)


def _history(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    """Read an old message: the user wrote it if it is from whom the conversation is with."""
    writer = conversation_key(channel=PREFIX, account=part.account, contact=message_contact(tree))
    out = writer != part.conversation or bool(text(tree, "to"))
    sides = people.sides_of_echo(tree) if out else people.sides_of_message(tree)
    return _written(part, change, raw, tree, words=words_of(tree), sides=sides, direction="out" if out else "in", silence="history")


def _written(
    part: WebhookPart,
    change: Change,
    raw: msgspec.Raw,
    tree: dict[str, Any],
    *,
    words: str,
    sides: Sides,
    direction: str,
    silence: str,
    becomes: Person = NOBODY,
) -> Item:
    return Item(
        kind=change.kind,
        type=short(text(tree, "type"), _TYPE_LENGTH_MAX) or "unknown",
        id=_id(part, change, raw, tree),
        at_ms=time_ms(tree.get("timestamp"), default_ms=part.received_at),
        direction=direction,
        text=words,
        answerable=not silence,
        silence=silence,
        reply_to=sides.reply_to,
        reply_to_kind=sides.reply_to_kind,
        person=sides.person,
        payload=raw,
        becomes=becomes,
    )


def _call(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    out = tree.get("direction") == "BUSINESS_INITIATED"
    sides = people.sides_of_echo(tree) if out else people.sides_of_message(tree)
    event = text(tree, "event")
    return _silent(
        part, change, raw, tree, type_=event, words=f"[call {short(event, 64)}]", person=sides.person, direction="out" if out else "in"
    )


def _preference(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    person = people.known(text(tree, "user_id"), text(tree, "wa_id"))
    return _silent(part, change, raw, tree, type_=text(tree, "category"), words=text(tree, "detail"), person=person)


def _update(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], people: People) -> Item:
    user_id = sub(tree, "user_id")
    person = people.known(identity(user_id.get("previous")), identity(tree.get("wa_id")))
    becomes = Person(user_id=short(identity(user_id.get("current"))))
    return _silent(part, change, raw, tree, type_=change.field, words=text(tree, "detail"), person=person, becomes=becomes)


def _error(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], _: People) -> Item:
    words = " ".join(word for word in (text(tree, "title") or text(tree, "message"), text(sub(tree, "error_data"), "details")) if word)
    return _silent(part, change, raw, tree, type_=text(tree, "code"), words=words)


def _notice(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any], _: People) -> Item:
    type_ = change.field if change.kind == "change" else "unknown"
    return _silent(part, change, raw, tree, type_=type_, words=text(tree, "event"))


def _silent(
    part: WebhookPart,
    change: Change,
    raw: msgspec.Raw,
    tree: dict[str, Any],
    *,
    type_: str,
    words: str,
    person: Person = NOBODY,
    becomes: Person = NOBODY,
    direction: str = "in",
) -> Item:
    entry_ms = time_ms(change.time, default_ms=part.received_at)
    return Item(
        kind=change.kind,
        type=short(type_, _TYPE_LENGTH_MAX) or "unknown",
        id=_id(part, change, raw, tree),
        at_ms=time_ms(tree.get("timestamp"), default_ms=entry_ms),
        direction=direction,
        text=short(words, 1_000),
        answerable=False,
        silence=change.kind,
        reply_to="",
        reply_to_kind="",
        person=person,
        payload=raw,
        becomes=becomes,
    )


def _unparseable(part: WebhookPart, change: Change, raw: msgspec.Raw) -> Item:
    return Item(
        kind="unknown",
        type="unparseable",
        id=_id(part, change, raw, {}),
        at_ms=time_ms(change.time, default_ms=part.received_at),
        direction="in",
        text="",
        answerable=False,
        silence="unparseable",
        reply_to="",
        reply_to_kind="",
        person=NOBODY,
        payload=raw,
    )


def _id(part: WebhookPart, change: Change, raw: msgspec.Raw, tree: dict[str, Any]) -> str:
    """Return the platform's id, or a hash where there is none or none of a sensible length.

    A notice has no id, and the same words may come twice and mean something new each time (a rating that goes down again): the time of its
    entry tells them apart, and is the same when the platform sends it again. A placeholder of an old picture has the id of the message that
    brings the picture itself later.
    """
    if change.kind not in _NOTICES:
        given = text(tree, "id")
        if given and len(given) <= _ID_LENGTH_MAX and tree.get("type") != _PLACEHOLDER:
            return given
        return event_id("item", change.kind, bytes(raw).decode("utf-8", "replace"))
    return event_id("item", change.kind, part.account, change.entry, str(change.time), change.field, bytes(raw).decode("utf-8", "replace"))


_READERS = {
    "message": _message,
    "echo": _echo,
    "history": _history,
    "call": _call,
    "preference": _preference,
    "identity": _update,
    "error": _error,
}
