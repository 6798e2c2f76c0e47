"""Who is who in the streams: which conversation an event belongs to, when one person comes under several keys. Pure functions.

[raw] is keyed by what an item says itself, so one person may come under a phone number and under a user id, in two partitions. Each key's
row holds a `Name`: the conversation that events under this key belong to. Dedupe is under the item's own key, names are resolved after it.

- A user id that is seen with a phone number for the first time asks that number's row, which alone knows whether there is a conversation:
  the item goes there (`ask`) and comes back with the answer (`answer`). What comes meanwhile goes the same way, so the order stays.
- A phone number that is seen with a user id (out of the contacts beside the item) never asks: the item is handled, and the user id is told
  (`link`); if it is older or linked already it tells the number back whose it is.
- An item whose conversation is another key is keyed again (`deliver`) and handled there whatever that row's own name says: a number that
  belongs to somebody else by now still names the conversation of the one it belonged to.

Of two keys the one that was seen first is the conversation. A phone number that comes with another user id starts anew: the conversation
under it stays with whom it was of. infra/decisions/0009-identity.md has the reasons.
"""

import msgspec

from schemas.channels.base import Item
from schemas.events.inbound import Person
from schemas.events.routed_part import Route
from schemas.events.webhook_part import Change, WebhookPart
from schemas.ids import conversation_key

NEVER = 1 << 62
"""A key that was never seen: any other is older."""

ANEW = NEVER + 1
"""A phone number that changed hands: the conversation under it belongs to somebody else."""

_KINDS = frozenset({"message", "echo", "call", "preference", "identity"})
_NAME_LENGTH_MAX = 200


class Name(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a key as a person's name.

    `since` is when it was first seen, milliseconds since 1970 (0: before this was written down). `canonical` is the conversation its events
    belong to, empty while it is linked with no other name. `other` is the name it is linked with: of a user id the newest phone number, of
    a phone number its user id. While `asked` names a key, events go through there, until the one with the id `last` is back.
    """

    since: int = 0
    canonical: str = ""
    other: str = ""
    asked: str = ""
    last: str = ""


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The names an item carries beside its own key: `other` of the same person now, phone number and user id from now on."""

    other: str = ""
    other_is_phone: bool = False
    new_phone: str = ""
    new_user: str = ""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where an item goes: to its conversation, or first with a question to the key `ask`; and what other keys must be told."""

    name: Name
    conversation: str = ""
    ask: str = ""
    links: list[tuple[str, Route]] = []


def carried_names(item: Item, part: WebhookPart, *, prefix: str) -> Carried:
    """Return the names of an item; none where it is a group's, an account's or an old one that was handed over in bulk."""
    if item.kind not in _KINDS or item.reply_to_kind == "group":
        return Carried()

    def key(name: str) -> str:
        usable = name and len(name) <= _NAME_LENGTH_MAX
        return conversation_key(channel=prefix, account=part.account, contact=name) if usable else ""

    def pair(person: Person) -> tuple[str, str]:
        return key(person.phone), key(person.user_id)

    own = part.conversation
    phone, user = pair(item.person)
    if own not in (phone, user) or part.account == "-":
        return Carried()
    new_phone, new_user = (name if name != own else "" for name in pair(item.becomes))
    other = phone if own == user else user
    return Carried(other=other if other != own else "", other_is_phone=own == user, new_phone=new_phone, new_user=new_user)


def seen(name: Name, at_ms: int) -> Name:
    """Return the name after an event under its key."""
    return msgspec.structs.replace(name, since=at_ms) if name.since == NEVER else name


def place(name: Name, own: str, carried: Carried, *, item_id: str, is_back: bool = False) -> Placed:
    """Return where an item under the key `own` goes; `is_back` if it was asked about and has its answer."""
    if name.asked and not is_back:
        return Placed(name=msgspec.structs.replace(name, last=item_id), ask=name.asked)
    other, links = carried.other, []
    if other and other != name.other:
        if carried.other_is_phone and not name.canonical:
            return Placed(name=msgspec.structs.replace(name, asked=other, last=item_id), ask=other)
        if name.other and not carried.other_is_phone:
            # The number changed hands. What the new one's user id belongs to is told by its row; this item does not wait for it.
            name = Name(since=ANEW, canonical=other)
        canonical = name.canonical or own
        since = name.since if canonical in (own, other) else 0
        links.append((other, _link(canonical, own, is_phone=carried.other_is_phone, since=since)))
        name = msgspec.structs.replace(name, canonical=canonical, other=other)
    if carried.new_phone or carried.new_user:
        name, more = _changed(name, own, carried)
        links += more
    return Placed(name=name, conversation=name.canonical or own, links=links)


def _changed(name: Name, own: str, carried: Carried) -> tuple[Name, list[tuple[str, Route]]]:
    """Return what a change of number or user id leads to: the new names belong to the same conversation."""
    canonical = name.canonical or own
    phone = carried.new_phone or (carried.other if carried.other_is_phone else own)
    links = []
    if phone and phone != own:
        links.append((phone, _link(canonical, carried.new_user, is_phone=True, is_firm=True)))
    if carried.new_user:
        links.append((carried.new_user, _link(canonical, phone, is_phone=False, is_firm=True)))
    other = name.other if carried.other_is_phone else carried.new_user or name.other
    return msgspec.structs.replace(name, canonical=canonical, other=other), links


def _link(canonical: str, other: str, *, is_phone: bool, since: int = 0, is_firm: bool = False) -> Route:
    return Route(step="link", canonical=canonical, other=other, is_phone=is_phone, since=since, is_firm=is_firm or is_phone)


def answer(name: Name, own: str, asker: str, route: Route) -> tuple[Name, str]:
    """Return the name of the phone number that was asked, and the conversation of the user id that asks."""
    if name.canonical and name.other == asker:
        return name, name.canonical
    if not name.canonical:
        winner = own if name.since <= route.since else asker
        return msgspec.structs.replace(name, canonical=winner, other=asker), winner
    if name.other:
        return msgspec.structs.replace(name, canonical=asker, other=asker, since=ANEW), asker
    return msgspec.structs.replace(name, other=asker), name.canonical


def learn(name: Name, route: Route, *, item_id: str) -> Name:
    """Return the name of a key that asked, when an item comes back with the answer; what it knows already stands."""
    if not name.canonical:
        name = msgspec.structs.replace(name, canonical=route.canonical, other=name.other or route.other)
    return msgspec.structs.replace(name, asked="", last="") if name.last == item_id and name.asked == route.other else name


def link(name: Name, own: str, route: Route) -> tuple[Name, tuple[str, Route] | None]:
    """Return the name of a key that is told whose it is, and what has to be told back."""
    if name.canonical == route.canonical:
        return msgspec.structs.replace(name, other=route.other or name.other), None
    if route.is_firm or (not name.canonical and route.since <= name.since):
        is_others = bool(route.is_phone and name.canonical and name.other and name.other != route.other)
        since = ANEW if is_others else name.since
        other = route.other or ("" if is_others else name.other)
        return msgspec.structs.replace(name, canonical=route.canonical, other=other, since=since), None
    # The user id is older, or linked already: the phone number joins it.
    canonical = name.canonical or own
    return msgspec.structs.replace(name, canonical=canonical, other=route.other), (route.other, _link(canonical, own, is_phone=True))


def alone(part: WebhookPart, item: Item) -> list[Change]:
    """Return the changes of a part with this item alone and all that is known of its people."""
    contacts = [contact for change in part.changes for contact in change.contacts]
    (change,) = [change for change in part.changes if any(raw is item.payload for raw in change.items)]
    return [msgspec.structs.replace(change, items=[item.payload], contacts=contacts)]
