"""The text of JSON: whether it is JSON at all, and whether our decoder can read it.

Reading happens twice on purpose. Python's own decoder tells JSON from what is not, and sees duplicate keys, of which any other decoder
silently drops one. msgspec then cuts the verbatim slices; it refuses lone surrogates. What is nested too deeply for either is told from
broken text by a check that never recurses. A body that is written as msgspec would write it needs none of that: what an encoder wrote is
JSON, and no object in it has a key twice.
"""

import json
import re
from typing import Any

import msgspec

from schemas.channels.base import BodyRefusedError

_BYTE_ORDER_MARK = "\ufeff"

_ESCAPES = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_STRINGS = re.compile(r'"[^"\\\x00-\x1f]*+"')
_SCALARS = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null")
_MARKS = re.compile(r"[#$(;kx]")
_ILLEGAL = re.compile(r"[^\[\](},;#]")
_MISPLACED = re.compile(r"[\[(,;][,;\]}]|[#\]}][#\[(]")
_OPENED_BY = {"]": "[", "}": "(", ",": "[", ";": "("}


class UnreadableError(ValueError):
    """JSON that our decoder refuses: duplicate keys, lone surrogates, too deep nesting. The text says which."""


class DuplicateKeyError(Exception):
    """An object that has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise DuplicateKeyError
    return tree


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Integers stay text: Python refuses to convert those of over 4,300 digits, and identities are text anyway.
DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_constant=_constant)
_encode = msgspec.json.Encoder().encode
LENIENT_DECODER = json.JSONDecoder(parse_int=str)


def plain_tree_of(body: bytes) -> Any:
    r"""Return the decoded JSON of a body that is written as we would write it, but for `\/`; None for any other, whatever is in it.

    That it is the same when written again proves that nothing of it was lost. Unlike in `tree_of`, integers stay integers.
    """
    if b"\\u" in body:  # we would write the character itself
        return None
    try:
        tree = msgspec.json.decode(body)
        return tree if _encode(tree).replace(b"/", b"\\/") == body else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def text_of(body: bytes) -> str:
    """Return the body as text; BodyRefusedError if it is empty, no UTF-8 or starts with a byte-order mark."""
    if not body:
        raise BodyRefusedError("The body is empty: send the JSON of the webhook.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BodyRefusedError(f"The body is no UTF-8 at byte {error.start}: send JSON as UTF-8.") from error
    if text.startswith(_BYTE_ORDER_MARK):
        raise BodyRefusedError("The body starts with a byte-order mark: send JSON without one.")
    return text


def tree_of(text: str) -> Any:
    """Return the decoded JSON, integers as text.

    Raises BodyRefusedError if it is not JSON, UnreadableError if it is and has duplicate keys or nests too deeply for us.
    """
    try:
        return DECODER.decode(text)
    except DuplicateKeyError as error:
        # The decoder stopped at the doubled key: what follows may still be broken.
        if not is_json(text):
            raise BodyRefusedError("The body is not JSON: send the JSON of the webhook.") from error
        raise UnreadableError("an object has a key twice") from error
    except RecursionError as error:
        if not is_json(text):
            raise BodyRefusedError("The body is not JSON: send the JSON of the webhook.") from error
        raise UnreadableError("it nests too deeply") from error
    except ValueError as error:
        raise BodyRefusedError(f"The body is not JSON: {error}.") from error


def is_json(text: str) -> bool:
    """Tell whether the text is one JSON value, in linear time and without recursion, however deep it nests."""
    # Escapes exist in strings only: the letter that replaces one is illegal anywhere else.
    unescaped = _ESCAPES.sub("x", text)
    if _MARKS.search(_STRINGS.sub("", unescaped)):
        return False  # what we put in the place of others would stand for itself
    bare = _SCALARS.sub("#", _STRINGS.sub("$", unescaped))
    for blank in " \t\n\r":
        bare = bare.replace(blank, "")
    # Objects that have members open with `(` and part them with `;`, so that what is left of `{`, `:` and `$` is misplaced.
    bare = bare.replace("$:", "k").replace("{k", "(").replace(",k", ";").replace("$", "#").replace("{}", "#").replace("[]", "#")
    if not bare or _ILLEGAL.search(bare) or _MISPLACED.search(bare):
        return False
    return bare[0] in "#[(" and _is_balanced(bare)


def _is_balanced(bare: str) -> bool:
    """Tell whether every bracket is closed by its own and every comma stands in the container it belongs to."""
    opened: list[str] = []
    for mark in bare.replace("#", ""):
        if mark in "[(":
            opened.append(mark)
        elif not opened or opened[-1] != _OPENED_BY[mark]:
            return False
        elif mark in "]}":
            opened.pop()
    return not opened


def is_readable(text: str) -> bool:
    """Tell whether both decoders read this JSON."""
    try:
        DECODER.decode(text)
        msgspec.json.decode(text, type=msgspec.Raw)
    except (DuplicateKeyError, RecursionError, ValueError, msgspec.DecodeError):
        return False
    return True
