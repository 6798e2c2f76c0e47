"""One walk over a webhook body: `entry[].changes[].value` with its arrays, of whatever kinds, accounts and people, in any order.

The decoded tree and the verbatim slices are walked side by side. Nothing falls on the floor: an array or object that is of no known kind is
an item of kind `unknown`, at the level where the body leaves the documented shape, and so is a scalar inside of `value`. (Scalars around
it, such as `entry[].time`, describe the envelope.) A `value` without items is one item of kind `change`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.channels.whatsapp.identity import CONTACT_OF, identity, names_of
from schemas.channels.whatsapp.parts import Context, Parts, Place
from schemas.events.webhook_part import NO_JSON
from schemas.ids import read_callback_data

KIND_OF_ARRAY = {
    "messages": "message",
    "statuses": "status",
    "message_echoes": "echo",
    "history": "history",
    "calls": "call",
    "user_preferences": "preference",
    "user_id_update": "identity",
    "errors": "error",
}
"""The arrays of `value` that hold items, and what we call these."""

_DESCRIBES_VALUE = frozenset({"messaging_product", "metadata", "contacts"})
_MESSAGES_FIELDS = frozenset({"", "messages"})
_HISTORY_FIELD = "history"
_SECONDS_DIGITS_MAX = 13
SECONDS_MAX = 10**_SECONDS_DIGITS_MAX - 1
"""The latest time of an entry that counts, seconds since 1970."""

_Members = dict[str, msgspec.Raw]

_members = msgspec.json.Decoder(_Members).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def walk(tree: dict[str, Any], raw: msgspec.Raw, *, is_mended: bool = False) -> Parts:
    """Return the parts of a body; one without any item is an unknown item itself.

    In a mended body `null` stands where something could not be read: there it is no item. Raises OversizeError, and msgspec.DecodeError or
    RecursionError where msgspec refuses what Python's decoder took.
    """
    steps = _Walk(is_mended=is_mended)
    steps.body(tree, raw)
    return steps.parts


def _each(trees: list[Any], raw: msgspec.Raw, path: str) -> Iterator[Place]:
    for index, (tree, element) in enumerate(zip(trees, _elements(raw), strict=True)):
        yield Place(tree, element, path, index, trees)


class _Walk:
    def __init__(self, *, is_mended: bool) -> None:
        self.parts = Parts()
        self._is_mended = is_mended

    def body(self, tree: dict[str, Any], raw: msgspec.Raw) -> None:
        members = _members(raw)
        context = Context()
        entries = tree.get("entry")
        if isinstance(entries, list):
            for entry in _each(entries, members["entry"], "entry"):
                self._entry(entry)
        self._rest(tree, members, context, "", known=("entry",) if isinstance(entries, list) else ())
        if not self.parts and not self._is_mended:
            self._unknown(Place(tree, raw, ""), context)

    def _entry(self, entry: Place) -> None:
        changes = _array(entry, "changes")
        if not changes:
            self._unknown(entry, Context())
            return
        members = _members(entry.raw)
        context = Context(entry=identity(entry.tree.get("id")), time=_seconds(entry.tree.get("time")))
        for change in _each(changes, members["changes"], f"{entry.where}.changes"):
            self._change(change, context)
        self._rest(entry.tree, members, context, f"{entry.where}.", known=("changes",))

    def _change(self, change: Place, context: Context) -> None:
        value = change.tree.get("value") if isinstance(change.tree, dict) else None
        if not isinstance(value, dict):
            is_lost = self._is_mended and value is None and isinstance(change.tree, dict)
            self._unknown(change._replace(tree=None) if is_lost else change, context)
            return
        members = _members(change.raw)
        field = change.tree.get("field")
        field = field if isinstance(field, str) else None
        self._rest(change.tree, members, context, f"{change.where}.", known=("value",) if field is None else ("value", "field"))
        self._value(Place(value, members["value"], change.where), field or "", context)

    def _value(self, value: Place, field: str, outer: Context) -> None:
        tree, members = value.tree, _members(value.raw)
        metadata = tree.get("metadata")
        context = Context(
            account=identity(metadata.get("phone_number_id")) if isinstance(metadata, dict) else "",
            field=field,
            entry=outer.entry,
            time=outer.time,
            metadata=members.get("metadata", NO_JSON),
        )
        kinds = _kinds(field, tree)
        if not kinds:
            if not self._is_mended:
                self.parts.add(value, kind="change", contact="", context=context)
            return
        for name, member in tree.items():
            if name not in _DESCRIBES_VALUE:
                self._member(Place(member, members[name], f"{value.path}.{name}"), kinds.get(name, ""), context)
        contacts = tree.get("contacts")
        if isinstance(contacts, list):
            self.parts.add_contacts(contacts, _elements(members["contacts"]), context)
        elif contacts is not None:
            self._unknown(Place(contacts, members["contacts"], f"{value.path}.contacts"), context)

    def _member(self, member: Place, kind: str, context: Context) -> None:
        if not isinstance(member.tree, list):
            if member.tree is not None:
                self._unknown(member, context)
            return
        for item in _each(member.tree, member.raw, member.path):
            if not isinstance(item.tree, dict) or not kind:
                self._unknown(item, context)
            elif member.path.endswith(".history"):
                self._chunk(item, context)
            else:
                self._item(item, kind, context)

    def _item(self, item: Place, kind: str, context: Context) -> None:
        self.parts.add(
            item,
            kind=kind,
            contact=CONTACT_OF[kind](item.tree),
            context=context,
            partition_hash=partition_hash(item.tree) if kind == "status" else None,
            names=names_of(item.tree),
        )

    def _chunk(self, chunk: Place, context: Context) -> None:
        """Walk over `history[].threads[].messages[]` and `history[].errors[]`."""
        threads, errors = _array(chunk, "threads"), _array(chunk, "errors")
        if not threads and not errors:
            self._unknown(chunk, context)
            return
        members = _members(chunk.raw)
        if threads:
            for thread in _each(threads, members["threads"], f"{chunk.where}.threads"):
                self._thread(thread, context)
        if errors:
            self._member(Place(errors, members["errors"], f"{chunk.where}.errors"), "error", context)
        self._rest(chunk.tree, members, context, f"{chunk.where}.", known=("threads", "errors"))

    def _thread(self, thread: Place, context: Context) -> None:
        """Walk over the messages of a thread: its id is the contact of them all, because those of the business name nobody else."""
        messages = _array(thread, "messages")
        if not messages:
            self._unknown(thread, context)
            return
        members = _members(thread.raw)
        contact = identity(thread.tree.get("id"))
        for message in _each(messages, members["messages"], f"{thread.where}.messages"):
            if isinstance(message.tree, dict):
                self.parts.add(message, kind="history", contact=contact, context=context, names=(contact.removeprefix("+"),))
            else:
                self._unknown(message, context)
        self._rest(thread.tree, members, context, f"{thread.where}.", known=("messages",))

    def _rest(self, tree: dict[str, Any], members: _Members, context: Context, path: str, *, known: tuple[str, ...]) -> None:
        """Keep the arrays and objects of the envelope that nobody knows."""
        for name, member in tree.items():
            if name not in known and isinstance(member, (dict, list)) and member:
                self._unknown(Place(member, members[name], path + name), context)

    def _unknown(self, place: Place, context: Context) -> None:
        if place.tree is not None or not self._is_mended:
            self.parts.add(place, kind="unknown", contact="", context=context)


def _array(place: Place, name: str) -> list[Any]:
    """Return the array that is a member of an object; an empty one if there is none."""
    member = place.tree.get(name) if isinstance(place.tree, dict) else None
    return member if isinstance(member, list) else []


def _kinds(field: str, value: dict[str, Any]) -> dict[str, str]:
    """Return the arrays of `value` that hold items, with the kind of these; none if the value is one item by itself.

    Messages count as such in their own field only: in [history] they are old ones, elsewhere nobody says that a user wrote them to us.
    Errors alone are a reason to open a value in that field only: other fields use the name for something of their own.
    """
    kinds = {name: kind for name, kind in KIND_OF_ARRAY.items() if isinstance(value.get(name), list) and value[name]}
    if field in _MESSAGES_FIELDS:
        return kinds
    if "messages" in kinds:
        kinds["messages"] = "history" if field == _HISTORY_FIELD else ""
    return kinds if any(kind and name != "errors" for name, kind in kinds.items()) else {}


def partition_hash(status: dict[str, Any]) -> int | None:
    """Return the key hash in a status's callback data; None if they are not ours."""
    data = status.get("biz_opaque_callback_data")
    ours = read_callback_data(data) if isinstance(data, str) else None
    return ours[1] if ours else None


def _seconds(value: object) -> int:
    """Return an entry's time; integers are text in the tree."""
    digits = identity(value)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _SECONDS_DIGITS_MAX else 0
