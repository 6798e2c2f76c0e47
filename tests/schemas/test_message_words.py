"""schemas.message_words: what a message object says."""

import msgspec
import pytest

from schemas.message_words import described


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b'{"type":"text","text":{"body":"hello"}}', ("text", "hello")),
        (b'{"type":"image","image":{"id":"1","caption":"look"}}', ("image", "look")),
        (b'{"type":"interactive","interactive":{"type":"button","body":{"text":"choose"}}}', ("interactive", "choose")),
        (b'{"type":"template","template":{"name":"welcome"}}', ("template", "[template welcome]")),
        (b'{"type":"sticker","sticker":{"id":"1"}}', ("sticker", "[sticker]")),
        (b'{"type":"text","text":"odd"}', ("text", "[text]")),
        (b'{"type":5}', ("unknown", "[unknown]")),
        (b"[]", ("unknown", "")),
        (b"nothing", ("unknown", "")),
    ],
)
def test_the_words_of_a_message(message: bytes, expected: tuple[str, str]) -> None:
    """A timeline shows the words of a message, or what it is where it has none."""
    assert described(msgspec.Raw(message)) == expected
