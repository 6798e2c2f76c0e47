"""Text of strangers on a terminal: what could move the cursor, hide or reverse words is shown as what it is."""

import unicodedata

# Invisible, but words of Persian and many emoji are wrong without them, and they move nothing.
_JOINERS = frozenset("\u200c\u200d")
# Controls, formats (which reverse or hide), halves of pairs, private characters, line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def harmless(text: str) -> str:
    """Return the text with every character that a terminal would obey, or would not show, written as its number."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")
