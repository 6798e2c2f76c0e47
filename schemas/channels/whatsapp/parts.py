"""Collects the items of one webhook body into its parts: one for each conversation and topic, items verbatim and in order.

Neighbouring items of one conversation, array and kind share one `Change`, so that an item costs its own bytes and a comma. What has to be
repeated for each part (keys, metadata, contacts) is counted: a body that would blow up is refused here and kept whole instead.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from schemas.channels.base import Part
from schemas.channels.whatsapp.identity import identity
from schemas.codec import encode
from schemas.events.webhook_part import NO_JSON, Change, WebhookPart
from schemas.ids import conversation_key
from schemas.topics import MIB, RAW, STATUS

CHANNEL = "whatsapp"
PREFIX = "wa"

# 1,000 updates, the most the platform batches, need half a MiB; 4 MiB of real messages that are all of different people need 8.
_REPEATED_BYTES_MAX = 16 * MIB
# What a part and a change cost beside the texts they repeat: braces, keys, quotes.
_PART_BYTES = 150
_CHANGE_BYTES = 100
# Room for the record's key and headers below the topic's limit.
_VALUE_BYTES_MAX = RAW.record_bytes_max - MIB // 4
_ACCOUNT_LENGTH_MAX = 200


class OversizeError(ValueError):
    """A body whose parts would repeat too much, or one of whose parts outgrows its record."""


class Place(NamedTuple):
    """A value of the body: its decoded tree beside its verbatim JSON, and where it stands.

    `array` is the array it is an element of, `path` then that of the array and `position` its own; for a member of an object it is None.
    """

    tree: Any
    raw: msgspec.Raw
    path: str
    position: int = -1
    array: object = None

    @property
    def where(self) -> str:
        """The path of the value itself."""
        return self.path if self.array is None else f"{self.path}.{self.position}"


class Context:
    """What the items of one `changes[]` element have in common."""

    __slots__ = ("account", "entry", "field", "metadata", "time", "touched")

    def __init__(self, *, account: str = "", field: str = "", entry: str = "", time: int = 0, metadata: msgspec.Raw = NO_JSON) -> None:
        self.account = account
        self.field = field
        self.entry = entry
        self.time = time
        self.metadata = metadata
        self.touched: dict[int, tuple[OpenPart, Change, set[str]]] = {}  # by the part: its first change here, and whom its items name


class OpenPart:
    """A part that is being filled."""

    __slots__ = ("account", "array", "changes", "key", "partition_hash", "topic")

    def __init__(self, *, topic: str, key: str, account: str, partition_hash: int | None) -> None:
        self.topic = topic
        self.key = key
        self.account = account
        self.partition_hash = partition_hash
        self.changes: list[Change] = []
        self.array: object = None  # the array that the newest change's items stand in


class Parts:
    """The parts of one body."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str, int | None], OpenPart] = {}
        self._repeated_bytes = 0

    def __bool__(self) -> bool:
        """Tell whether there is an item at all."""
        return bool(self._open)

    def add(
        self, place: Place, *, kind: str, contact: str, context: Context, partition_hash: int | None = None, names: Iterable[str] = ()
    ) -> None:
        """Add one item; `names` is what it calls its people. OversizeError when the parts of the body repeat too much."""
        topic = STATUS.name if kind == "status" else RAW.name
        slot = (topic, context.account, contact.removeprefix("+"), partition_hash)
        part = self._open.get(slot)
        if part is None:
            part = self._open[slot] = self._opened(topic, context.account, contact, partition_hash)
        change = part.changes[-1] if part.changes else None
        if change is None or place.array is None or part.array is not place.array or change.kind != kind:
            change = self._change(kind, context, place.where)
            part.changes.append(change)
            part.array = place.array
        change.items.append(place.raw)
        touch = context.touched.get(id(part))
        if touch is None:
            touch = context.touched[id(part)] = (part, change, set())
        touch[2].update(names)

    def _opened(self, topic: str, account: str, contact: str, partition_hash: int | None) -> OpenPart:
        key = conversation_key(channel=PREFIX, account=account, contact=contact)
        account = account_of(account, key)
        self._repeat(_PART_BYTES + len(key) + len(account))
        return OpenPart(topic=topic, key=key, account=account, partition_hash=partition_hash)

    def _change(self, kind: str, context: Context, path: str) -> Change:
        repeated = len(context.field) + len(context.entry) + len(path) + memoryview(context.metadata).nbytes
        self._repeat(_CHANGE_BYTES + repeated)
        return Change(
            kind=kind, field=context.field, entry=context.entry, time=context.time, path=path, metadata=context.metadata, items=[]
        )

    def _repeat(self, count: int) -> None:
        self._repeated_bytes += count
        if self._repeated_bytes > _REPEATED_BYTES_MAX:
            raise OversizeError("its parts would repeat more than they hold")

    def add_contacts(self, trees: list[Any], raws: list[msgspec.Raw], context: Context) -> None:
        """Give each part that this change touched the contacts its items name; all of them if it touched one part only."""
        if len(context.touched) == 1:
            ((_, change, _),) = context.touched.values()
            change.contacts.extend(raw for tree, raw in zip(trees, raws, strict=True) if tree is not None)
            return
        by_name: dict[str, list[int]] = {}
        for position, tree in enumerate(trees):
            for name in contact_names(tree):
                by_name.setdefault(name, []).append(position)
        for _, change, names in context.touched.values():
            positions = sorted({position for name in names for position in by_name.get(name, ())})
            self._repeat(sum(memoryview(raws[position]).nbytes for position in positions))
            change.contacts.extend(raws[position] for position in positions)

    def close(self, *, received_at_ms: int) -> list[Part]:
        """Return the parts; OversizeError if one outgrows its record."""
        return [
            part_of(
                topic=part.topic,
                key=part.key,
                account=part.account,
                partition_hash=part.partition_hash,
                received_at_ms=received_at_ms,
                changes=part.changes,
            )
            for part in self._open.values()
        ]


def account_of(account: str, key: str) -> str:
    """Return an account as a part names it: as its key does where there is none, or where it is too long to be one."""
    return account if account and len(account) <= _ACCOUNT_LENGTH_MAX else key.split(":")[1]


def part_of(*, topic: str, key: str, account: str, partition_hash: int | None, received_at_ms: int, changes: list[Change]) -> Part:
    """Return the part with these changes; OversizeError if it outgrows its record."""
    value = encode(WebhookPart(channel=CHANNEL, account=account, conversation=key, received_at=received_at_ms, changes=changes))
    if len(value) > _VALUE_BYTES_MAX:
        raise OversizeError("a part of it outgrows its record")
    return Part(topic=topic, key=key, value=value, partition_hash=partition_hash)


def contact_names(tree: Any) -> set[str]:
    """Return what a `contacts[]` element calls its person."""
    if not isinstance(tree, dict):
        return set()
    names = {identity(tree.get("wa_id")).removeprefix("+"), identity(tree.get("user_id"))}
    names.discard("")
    return names
