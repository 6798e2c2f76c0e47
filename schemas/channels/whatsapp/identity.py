"""Whom an item belongs to: the contact part of its conversation's key, a pure function of the item's own JSON.

The business-scoped user id comes first, because a phone number may be missing from one item and present in the next. Absent, null and
empty are alike; a number that is written as a JSON integer is the same as one written as text.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Tree = Mapping[str, Any]

_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


def identity(value: object) -> str:
    """Return an id or a phone number as text; empty if it is neither text nor an integer."""
    if type(value) is str:
        return value.strip()
    return str(value) if type(value) is int else ""


def is_user_id(address: str) -> bool:
    """Tell whether an address is a business-scoped user id, which some senders put where a phone number belongs."""
    return _USER_ID.fullmatch(address) is not None


def message_contact(item: Tree) -> str:
    """Return the contact of a message: its group, else who wrote it, else whose name it says has changed."""
    writer = identity(item.get("group_id")) or identity(item.get("from_user_id")) or identity(item.get("from"))
    system = item.get("system")
    return writer or (identity(system.get("previous_user_id")) if isinstance(system, dict) else "")


def status_contact(item: Tree) -> str:
    """Return the contact of a status: the group, else whom the message went to."""
    if item.get("recipient_type") == "group":
        return identity(item.get("recipient_id"))
    return identity(item.get("recipient_user_id")) or identity(item.get("recipient_id"))


def echo_contact(item: Tree) -> str:
    """Return the contact of a message that people of the business sent: its group, else whom it went to."""
    return identity(item.get("group_id")) or identity(item.get("to_user_id")) or identity(item.get("to"))


def history_contact(item: Tree) -> str:
    """Return the contact of an old message that stands outside of a thread: whom it went to, else who wrote it."""
    return echo_contact(item) or message_contact(item)


def call_contact(item: Tree) -> str:
    """Return the contact of a call: the other side of it."""
    if item.get("direction") == "BUSINESS_INITIATED":
        return identity(item.get("to_user_id")) or identity(item.get("to"))
    return identity(item.get("from_user_id")) or identity(item.get("from"))


def preference_contact(item: Tree) -> str:
    """Return the contact of a preference: whose it is."""
    return identity(item.get("user_id")) or identity(item.get("wa_id"))


def update_contact(item: Tree) -> str:
    """Return the contact of a changed user id: the one from before, else the phone number."""
    user_id = item.get("user_id")
    return identity(user_id.get("previous") if isinstance(user_id, dict) else user_id) or identity(item.get("wa_id"))


def no_contact(_: Tree) -> str:
    """Return the empty contact: the item is about the account."""
    return ""


CONTACT_OF: dict[str, Callable[[Tree], str]] = {
    "message": message_contact,
    "status": status_contact,
    "echo": echo_contact,
    "history": history_contact,
    "call": call_contact,
    "preference": preference_contact,
    "identity": update_contact,
    "error": no_contact,
}
"""How the contact of each kind of item is found."""

_NAMES = ("from_user_id", "from", "to_user_id", "to", "recipient_user_id", "recipient_id", "user_id", "wa_id")
_PARTICIPANTS = ("recipient_participant_user_id", "recipient_participant_id")


def names_of(item: Tree) -> set[str]:
    """Return everything an item calls its people; contacts are matched by it."""
    names = {identity(item[name]).removeprefix("+") for name in (*_NAMES, *_PARTICIPANTS) if name in item}
    names.discard("")
    return names
