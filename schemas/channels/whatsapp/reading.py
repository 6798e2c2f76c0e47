"""Careful reading of the platform's JSON: whatever is missing or of another type is empty, and nothing here raises."""

import json
from typing import Any

import msgspec

from schemas.channels.whatsapp.identity import identity

_SECONDS_MAX = 10**11  # the year 5138; whatever is larger counts milliseconds or, from a thousand times that on, microseconds
_ID_LENGTH_MAX = 256

_decode = msgspec.json.Decoder().decode
_number_tolerant = json.JSONDecoder(parse_int=str)


def read_item(raw: msgspec.Raw) -> dict[str, Any] | None:
    """Return an item as an object; None if it is none or cannot be read."""
    try:
        tree = _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        tree = _with_huge_numbers(raw)
    return tree if isinstance(tree, dict) else None


def _with_huge_numbers(raw: msgspec.Raw) -> Any:
    """Read JSON that msgspec refuses for a number only: such a number says nothing to us, what stands beside it does."""
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
        return _number_tolerant.decode(bytes(raw).decode())
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def sub(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the object at a path of member names; an empty one if there is none."""
    for name in path:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            return {}
        tree = inner
    return tree


def text(tree: dict[str, Any], name: str) -> str:
    """Return a member's text, numbers as text too; empty if it is neither."""
    value = tree.get(name)
    if type(value) is str:
        return value
    return str(value) if type(value) in (int, float) else ""


def objects(tree: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects in a member's array."""
    value = tree.get(name)
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def whole(value: object) -> int | None:
    """Return an integer that is written as a number or as text of at most 19 characters; None if it is neither."""
    digits = identity(value)
    unsigned = digits.removeprefix("-")
    return int(digits) if unsigned.isascii() and unsigned.isdigit() and len(digits) <= len("-999999999999999999") else None


def time_ms(value: object, *, default_ms: int) -> int:
    """Return the platform's time in milliseconds since 1970; seconds, milliseconds and microseconds have all been seen, as text or number.

    `default_ms` is what counts where there is none that makes sense.
    """
    stamp = int(value) if isinstance(value, float) and 0 < value < _SECONDS_MAX else whole(value)
    if stamp is None or stamp <= 0 or stamp >= _SECONDS_MAX * 1_000_000:
        return default_ms
    if stamp < _SECONDS_MAX:
        return stamp * 1_000
    return stamp if stamp < _SECONDS_MAX * 1_000 else stamp // 1_000


def short(value: str, length: int = _ID_LENGTH_MAX) -> str:
    """Return text of bounded length: what is longer is nothing real."""
    return value if len(value) <= length else value[: length - 1] + "…"
