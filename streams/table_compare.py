"""The streams' table as it is against the same made again from the log: what is the same, what differs, what would be written. Pure.

Times at which rows were written are not compared: they are those of another clock by some milliseconds.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from streams.rows import ConversationRow, IdsRow, sealed_key

Verdict = Literal["same", "changed", "missing", "unreadable", "ahead", "older", "unexplained"]
"""How a conversation's rows are: the same as made again; other ones; not there; there and no rows of ours; written for records that are not
committed yet; differing or alone because the log does not go back far enough; alone although it does."""

VERDICTS: tuple[Verdict, ...] = ("same", "changed", "missing", "unreadable", "ahead", "older", "unexplained")
WRITTEN: frozenset[Verdict] = frozenset({"changed", "missing", "unreadable"})
"""Those that are written when the table is replaced; all others stay as they are."""

Get = Callable[[bytes], bytes | None]
_IDS = b"\x00ids\x00"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversation's rows say: the row, and the hashes of all ids, those in sealed rows first."""

    row: ConversationRow
    ids: bytes


class UnreadableError(Exception):
    """A row is not one of ours, or a row of ids that it speaks of is not there."""


def is_sealed(key: bytes) -> bool:
    """Tell whether a key is that of a row of ids, which belongs to a conversation's row."""
    return _IDS in key


def known_of(key: bytes, get: Get) -> Known | None:
    """Return what the rows of a conversation say; None if there is none, UnreadableError if they are damaged."""
    value = get(key)
    if value is None:
        return None
    try:
        row = msgspec.json.decode(value, type=ConversationRow)
        sealed = [get(sealed_key(key, each.number)) for each in row.sealed]
        ids = b"".join(msgspec.json.decode(each or b"", type=IdsRow).ids for each in sealed)
    except msgspec.DecodeError as error:
        raise UnreadableError(str(error)) from None
    return Known(row=row, ids=ids + row.ids)


def judge(old: Known | None, new: Known | None, *, committed: int, is_whole: bool) -> Verdict:
    """Return how a conversation's rows are; `is_whole`: the log still has all of its partition, and what is made again lacks nothing."""
    if new is None:
        if old is not None and old.row.done >= committed:
            return "ahead"
        return "unexplained" if is_whole else "older"
    if old is None:
        return "missing"
    if old.row.done >= committed:
        return "ahead"
    if _compared(old) == _compared(new):
        return "same"
    if is_whole:
        return "changed"
    return "same" if _ends_with(old, new) else "older"


def _compared(known: Known) -> tuple[object, ...]:
    row = known.row
    return row.done, row.turns, known.ids, row.name


def _ends_with(old: Known, new: Known) -> bool:
    """Tell whether what is there is what was made again, with more before it."""
    turns = new.row.turns
    return (
        old.row.done == new.row.done
        and old.ids.endswith(new.ids)
        and old.row.turns[len(old.row.turns) - len(turns) :] == turns
        and old.row.name.canonical == new.row.name.canonical
    )


def writes(key: bytes, *, old: Get, new: Get) -> list[tuple[bytes, bytes | None]]:
    """Return what to write, in order, so that a conversation's rows are the new ones (None: forget the key).

    Rows of ids come before the row that speaks of them. Recovery keeps the row with the higher offset done, so one that is too high has
    to be forgotten first.
    """
    value = new(key)
    if value is None:
        return []
    row = msgspec.json.decode(value, type=ConversationRow)
    found: list[tuple[bytes, bytes | None]] = []
    wanted = [(sealed_key(key, each.number), new(sealed_key(key, each.number))) for each in row.sealed]
    for name, content in [*wanted, (key, value)]:
        before = old(name)
        if content is None or before == content:
            continue
        if before is not None and done_of(before) > done_of(content):
            found.append((name, None))
        found.append((name, content))
    kept = {name for name, _ in wanted}
    found += [(name, None) for name in _sealed_names(key, old) if name not in kept]
    return found


def done_of(value: bytes) -> int:
    """Return the offset done that a row of either kind carries; one above all where it cannot be read."""
    try:
        return msgspec.json.decode(value, type=_Done).done
    except msgspec.DecodeError:
        return 1 << 62


class _Done(msgspec.Struct):
    done: int = -1


def _sealed_names(key: bytes, get: Get) -> list[bytes]:
    value = get(key)
    try:
        row = msgspec.json.decode(value, type=ConversationRow) if value is not None else ConversationRow()
    except msgspec.DecodeError:
        return []
    return [name for each in row.sealed if get(name := sealed_key(key, each.number)) is not None]
