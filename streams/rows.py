"""The streams' one table: one row a conversation, and what may be remembered in it. Pure functions.

A row holds the offset done in [raw], the last turns, the ids of the last 8 days and what is known of its key as a name (`identity`). The
order of effects is outputs, then this row, then the acknowledgement: after a crash the row may know more than the committed offset, and an
event at or below `done` is only acknowledged.

Ids are bounded: 8 bytes of hash each. A row keeps the newest ones itself; when there are too many, the older ones are sealed into a row of
their own that is never written again, so that a busy conversation does not rewrite eight days with every message. A sealed row is found
by the conversation's key, a zero byte and its number, which no conversation key can hold.
"""

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec

from schemas.codec import Event
from schemas.groups import HORIZON_MS
from streams.identity import Name

REMEMBERED_MS = HORIZON_MS
TURNS_MAX = 20
TURN_LENGTH_MAX = 2_000
OPEN_IDS_MAX = 256
_ID_BYTES = 8


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """One thing said: `role` is user or assistant."""

    role: Literal["user", "assistant"]
    text: str


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """A sealed row of ids: its number, and when the newest of its ids came, milliseconds since 1970."""

    number: int
    newest_ms: int


class ConversationRow(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """What streams know of a conversation. `ids` are 8-byte hashes, oldest first; `ids_newest_ms` is when the last one came."""

    done: int = -1
    turns: list[Turn] = []
    ids: bytes = b""
    ids_newest_ms: int = 0
    sealed: list[Sealed] = []
    next_sealed: int = 0
    name: Name = Name()


class IdsRow(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """A sealed row: ids that came up to `newest_ms`, written at offset `done`."""

    done: int
    ids: bytes
    newest_ms: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What to write: sealed rows first, then the conversation's row, then forget the keys in `drop`."""

    row: ConversationRow
    seal: list[tuple[bytes, IdsRow]] = []
    drop: list[bytes] = []


def sealed_key(conversation: bytes, number: int) -> bytes:
    """Return the key of a sealed row."""
    return b"%b\x00ids\x00%d" % (conversation, number)


def id_hash(item_id: str) -> bytes:
    """Return the 8 bytes an item's id is remembered by.

    Among the 10,000 ids of a very busy conversation the chance of one false duplicate is below 10,000 ** 2 / 2 ** 65, one in 10 ** 11.
    """
    return hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).digest()


def holds(ids: bytes, wanted: bytes) -> bool:
    """Tell whether the hash stands in the row of hashes, at a place where one begins."""
    at = ids.find(wanted)
    while at >= 0 and at % _ID_BYTES:
        at = ids.find(wanted, at + 1)
    return at >= 0


def is_known(row: ConversationRow, conversation: bytes, item_id: str, *, now_ms: int, sealed_row: Callable[[bytes], bytes | None]) -> bool:
    """Tell whether an item of this id came in the last 8 days; reads sealed rows through `sealed_row`, newest first."""
    wanted = id_hash(item_id)
    if holds(row.ids, wanted):
        return True
    for sealed in reversed(row.sealed):
        if sealed.newest_ms < now_ms - REMEMBERED_MS:
            break
        value = sealed_row(sealed_key(conversation, sealed.number))
        if value is not None and holds(msgspec.json.decode(value, type=IdsRow).ids, wanted):
            return True
    return False


def advance(
    row: ConversationRow, conversation: bytes, *, done: int, item_ids: list[str], turns: list[Turn], now_ms: int, name: Name | None = None
) -> Changes:
    """Return what to write when the event at offset `done` is dealt with: its items' ids remembered, its turns added, its name learnt."""
    ids = row.ids + b"".join(id_hash(item_id) for item_id in item_ids)
    newest_ms = max(now_ms, row.ids_newest_ms) if item_ids else row.ids_newest_ms
    sealed, number, seal = list(row.sealed), row.next_sealed, []
    while len(ids) > OPEN_IDS_MAX * _ID_BYTES:
        head, ids = ids[: OPEN_IDS_MAX * _ID_BYTES], ids[OPEN_IDS_MAX * _ID_BYTES :]
        seal.append((sealed_key(conversation, number), IdsRow(done=done, ids=head, newest_ms=newest_ms)))
        sealed.append(Sealed(number, newest_ms))
        number += 1
    kept = [each for each in sealed if each.newest_ms >= now_ms - REMEMBERED_MS]
    drop = [sealed_key(conversation, each.number) for each in sealed if each.newest_ms < now_ms - REMEMBERED_MS]
    spoken = [Turn(turn.role, turn.text[:TURN_LENGTH_MAX]) for turn in turns]
    changed = ConversationRow(
        done=done,
        turns=[*row.turns, *spoken][-TURNS_MAX:],
        ids=ids,
        ids_newest_ms=newest_ms,
        sealed=kept,
        next_sealed=number,
        name=name or row.name,
    )
    return Changes(row=changed, seal=seal, drop=drop)


class _Done(msgspec.Struct, frozen=True):
    done: int = -1


def offset_done(value: bytes) -> int:
    """Return the offset done that any row's bytes carry; -1 if they carry none."""
    try:
        return msgspec.json.decode(value, type=_Done).done
    except msgspec.DecodeError:
        return -1


def replaces(value: bytes, known: bytes | None) -> bool:
    """Tell whether a row of the changelog takes the place of the one that is known: unless that one has done more."""
    return known is None or offset_done(value) >= offset_done(known)
