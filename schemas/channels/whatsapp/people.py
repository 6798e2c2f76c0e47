"""Who is who in a part: names out of its contacts, and the address that an answer goes to.

`contacts[i]` does not belong to `messages[i]`: people are matched by phone number or user id. An answer goes to exactly the address that
was received, never to one that was rewritten or looked up.
"""

from typing import Any, NamedTuple

from schemas.channels.whatsapp.identity import identity, is_user_id
from schemas.channels.whatsapp.parts import contact_names
from schemas.channels.whatsapp.reading import read_item, short, sub, text
from schemas.events.inbound import Person
from schemas.events.webhook_part import WebhookPart

NOBODY = Person()
_ADDRESS_LENGTH_MAX = 200


class Sides(NamedTuple):
    """The other side of a message: who it is, and where an answer goes (`phone`, `user` or `group`; empty: nowhere)."""

    person: Person
    reply_to: str
    reply_to_kind: str


class People:
    """The people that a part's contacts tell about; read when first needed."""

    def __init__(self, part: WebhookPart) -> None:
        self._part = part
        self._by_name: dict[str, dict[str, Any]] | None = None

    def sides_of_message(self, tree: dict[str, Any]) -> Sides:
        """Return who wrote a message."""
        return self._sides(tree, user="from_user_id", phone="from")

    def sides_of_echo(self, tree: dict[str, Any]) -> Sides:
        """Return whom a message of the business went to."""
        return self._sides(tree, user="to_user_id", phone="to")

    def _sides(self, tree: dict[str, Any], *, user: str, phone: str) -> Sides:
        user_id, number = _address(tree.get(user)), _address(tree.get(phone))
        if is_user_id(number):
            user_id, number = user_id or number, ""
        person = self.known(user_id, number)
        if group := _address(tree.get("group_id")):
            return Sides(person, group, "group")
        if number:
            return Sides(person, number, "phone")
        return Sides(person, user_id, "user" if user_id else "")

    def known(self, user_id: str, phone: str) -> Person:
        """Return what is known of a person with this user id, phone number or both."""
        contacts = self._contacts()
        contact = contacts.get(user_id) or contacts.get(phone.removeprefix("+")) or {}
        profile = sub(contact, "profile")
        return Person(
            name=short(text(profile, "name") or text(profile, "username")),
            phone=short(phone or identity(contact.get("wa_id"))),
            user_id=short(user_id or identity(contact.get("user_id"))),
        )

    def _contacts(self) -> dict[str, dict[str, Any]]:
        if self._by_name is None:
            self._by_name = {}
            for change in self._part.changes:
                for raw in change.contacts:
                    tree = read_item(raw)
                    for name in contact_names(tree):
                        self._by_name.setdefault(name, tree or {})
        return self._by_name


def _address(value: object) -> str:
    address = identity(value)
    return address if len(address) <= _ADDRESS_LENGTH_MAX else ""
