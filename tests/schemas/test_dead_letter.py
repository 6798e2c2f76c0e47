"""Dead letters say in their headers why and where; the value stays the original bytes."""

import msgspec
import pytest

from schemas.events.dead_letter import DeadLetter, dead_letter_headers, dead_letter_id, read_dead_letter, read_redrive, redrive_headers

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
    tenant="acme",
    items="1,2",
    redrive_of="0" * 32,
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


@pytest.mark.parametrize(("name", "number"), [("offset", -1), ("offset", 1 << 63), ("partition", 1 << 31), ("at", 1 << 60)])
def test_numbers_that_no_table_takes_are_refused(name: str, number: int) -> None:
    """A header may claim anything: what cannot be kept as what it says is not a dead letter's."""
    headers = dict(dead_letter_headers(_LETTER)) | {f"ottla_dl_{name}": str(number).encode()}
    with pytest.raises(ValueError, match="not the headers of a dead letter"):
        read_dead_letter(list(headers.items()))


def test_a_long_error_is_cut() -> None:
    """However much an error says, the headers stay small."""
    again = read_dead_letter(dead_letter_headers(msgspec.structs.replace(_LETTER, error="x" * 5_000_000)))
    assert again.error == "x" * 2_000


def test_every_record_of_the_topic_has_an_id() -> None:
    """A dead letter's own, and for what others wrote there one made from where it stands."""
    headers = dead_letter_headers(_LETTER)
    assert dead_letter_id(headers, partition=1, offset=2) == dict(headers)["ce_id"].decode()
    foreign = {dead_letter_id([("ce_id", b"a" * 100_000)], partition=1, offset=offset) for offset in range(3)}
    assert len(foreign | {dead_letter_id([], partition=1, offset=0)}) == 3


def test_a_redriven_record_says_whose_redrive_it_is() -> None:
    """The letter's id and the items that failed; without items all of the record is meant."""
    some = read_redrive(redrive_headers("7" * 32, "a,b", time_ms=1))
    assert some is not None
    assert (some.letter, some.asks_for("a"), some.asks_for("c")) == ("7" * 32, True, False)
    whole = read_redrive(redrive_headers("7" * 32, "", time_ms=1))
    assert whole is not None
    assert whole.asks_for("c")
    assert read_redrive(dead_letter_headers(_LETTER)) is None
