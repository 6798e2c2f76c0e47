"""Takes out of a body what our decoder refuses, so that one bad item does not hold up its siblings.

The body itself is kept as it is and dead-lettered; what is left after mending only decides which of its items go on. Everything that
cannot be read becomes `null` where it stood, at the lowest level of the envelope that is possible: an item, else a change, else an entry.
"""

import re

from schemas.channels.whatsapp.json_text import LENIENT_DECODER, is_readable

_BLANK = re.compile(r"[ \t\n\r]*+")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]')
_NOTHING = "null"

# The envelope from outside in: an object by the member to enter (None: every member), an array by an empty name.
_ENVELOPE: tuple[str | None, ...] = ("entry", "", "changes", "", "value", None, "")


def mend(text: str) -> str:
    """Return the JSON text with `null` for everything that cannot be read; `text` must be JSON."""
    return _mend(text, _past_blank(text, 0), 0)[0]


def _mend(text: str, start: int, level: int) -> tuple[str, int]:
    """Return the mended text of the value at `start` and where it ends."""
    if level < len(_ENVELOPE):
        if text[start] == "{" and _ENVELOPE[level] != "":
            return _mend_object(text, start, level)
        if text[start] == "[" and _ENVELOPE[level] == "":
            return _mend_array(text, start, level)
    end = _end_of_value(text, start)
    value = text[start:end]
    return (value if is_readable(value) else _NOTHING), end


def _mend_array(text: str, start: int, level: int) -> tuple[str, int]:
    elements: list[str] = []
    at = _past_blank(text, start + 1)
    while text[at] != "]":
        if text[at] == ",":
            at = _past_blank(text, at + 1)
        element, at = _mend(text, at, level + 1)
        elements.append(element)
        at = _past_blank(text, at)
    return "[" + ",".join(elements) + "]", at + 1


def _mend_object(text: str, start: int, level: int) -> tuple[str, int]:
    members: list[str] = []
    names: set[str] = set()
    sound = True
    at = _past_blank(text, start + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _past_blank(text, at + 1)
        name, after = LENIENT_DECODER.raw_decode(text, at)
        key = text[at:after]
        at = _past_blank(text, _past_blank(text, after) + 1)
        entered = _ENVELOPE[level] is None or _ENVELOPE[level] == name
        value, at = _mend(text, at, level + 1 if entered else len(_ENVELOPE))
        members.append(f"{key}:{value}")
        sound = sound and name not in names and is_readable(key)
        names.add(name)
        at = _past_blank(text, at)
    return ("{" + ",".join(members) + "}" if sound else _NOTHING), at + 1


def _past_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _end_of_value(text: str, start: int) -> int:
    try:
        return LENIENT_DECODER.raw_decode(text, start)[1]
    except RecursionError:
        return _end_of_brackets(text, start)


def _end_of_brackets(text: str, start: int) -> int:
    """Return where the object or array at `start` ends, however deep it nests."""
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        mark = match[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
            if not depth:
                return match.end()
    return len(text)
