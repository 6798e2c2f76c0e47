"""Dead letters say in their headers why and where; the value stays the original bytes."""

import msgspec
import pytest

from schemas.events.dead_letter import DeadLetter, dead_letter_headers, read_dead_letter

_LETTER = DeadLetter(
    stage="streams",
    cause="undecodable",
    error="WebhookPart: bad שלום \ud800",
    topic="raw",
    partition=3,
    offset=7,
    attempts=2,
    at=1_700_000_000_000,
    stack="line\n" * 10_000,
)


def test_headers_say_all_of_it() -> None:
    """Every field comes back, the stack cut at its beginning; text that is no proper text is written all the same."""
    headers = dead_letter_headers(_LETTER)
    assert sum(len(value) for _, value in headers) < 10_000
    again = read_dead_letter(headers)
    assert again == msgspec.structs.replace(_LETTER, error="WebhookPart: bad שלום \\ud800", stack=_LETTER.stack[-8_000:])


def test_the_same_failure_has_the_same_id() -> None:
    """A second run that fails alike writes a letter of the same id; another cause is another one."""

    def id_of(letter: DeadLetter) -> bytes:
        return dict(dead_letter_headers(letter))["ce_id"]

    assert id_of(_LETTER) == id_of(msgspec.structs.replace(_LETTER, at=5, attempts=9))
    assert id_of(_LETTER) != id_of(msgspec.structs.replace(_LETTER, cause="agent-error"))


@pytest.mark.parametrize("headers", [[], [("ottla_dl_stage", b"streams")], [("ce_id", b"1")]])
def test_other_headers_are_not_a_dead_letters(headers: list[tuple[str, bytes]]) -> None:
    """ValueError says so."""
    with pytest.raises(ValueError, match="not the headers of a dead letter"):
        read_dead_letter(headers)
