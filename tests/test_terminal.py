"""What strangers write cannot do anything to a terminal."""

import unicodedata

import pytest

from infra.terminal import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("", ""),
        ("Grüße, שלום, 你好", "Grüße, שלום, 你好"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\x9b31m", "\\x9b31m"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("\ud800", "\\ud800"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("hidden \U000e0041tag", "hidden \\U000e0041tag"),
    ],
)
def test_harmful_characters_are_shown_as_their_numbers(text: str, shown: str) -> None:
    """Controls, direction marks and invisible characters are escaped; letters of every script and emoji stay."""
    assert harmless(text) == shown


def test_no_control_of_any_kind_is_left() -> None:
    """Whatever the character, nothing that a terminal obeys comes out."""
    shown = {each for number in range(0x11_0000) for each in harmless(chr(number))}
    assert {unicodedata.category(each) for each in shown}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert shown.isdisjoint("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
