"""tests.torture.final: which messages and sends a dead letter speaks of, whatever stood in it."""

from pathlib import Path

import msgspec

import schemas
from infra.simulator.webhooks import text_body
from schemas.channels import CHANNELS
from schemas.events.dead_letter import DeadLetter, dead_letter_headers
from tests.torture.final import Named, letter_of, named_in

_BODY = text_body(account="1", phone="15550000001", texts=[("wamid.1", "one"), ("wamid.2", "two")], at_s=1)


def _example(name: str) -> bytes:
    return (Path(schemas.__file__).parent / "examples" / f"{name}.v1.json").read_bytes()


def test_a_letter_names_what_its_record_holds() -> None:
    """A part of a body, and a body that could not be split, name the messages in them; events name their own."""
    (part,) = CHANNELS["whatsapp"].split(_BODY, received_at_ms=1)
    assert named_in("raw", part.value) == Named(["wamid.1", "wamid.2"], [])
    assert named_in("raw", _BODY.replace(b"one", b"\\ud83d")) == Named(["wamid.1", "wamid.2"], [])
    outbound, sent, inbound = (_example(name) for name in ("outbound", "sent", "inbound"))
    assert named_in("outbound-high", outbound) == Named([], [msgspec.json.decode(outbound)["id"]])
    assert named_in("sent", sent) == Named([], [msgspec.json.decode(sent)["id"]])
    assert named_in("inbound", inbound) == Named([msgspec.json.decode(inbound)["platform_id"]], [])


def test_what_cannot_be_read_names_nothing() -> None:
    """No bytes of a dead letter stop the reading of the others."""
    for value in (b"", b"\xff", b"[]", b"{}", b'{"entry":7}', b'{"entry":[{"changes":[{"value":[]}]}]}', b"not JSON"):
        assert named_in("raw", value) == named_in("sent", value) == Named([], [])


def test_a_letter_tells_its_stage_and_cause() -> None:
    """The entry has what the headers say, and the key for its conversation."""
    letter = DeadLetter(stage="streams", cause="undecodable", error="e", topic="raw", partition=1, offset=2, attempts=1, at=3_000)
    entry = letter_of(b"wa:-:-", _BODY, dead_letter_headers(letter))
    assert (entry.conversation, entry.stage, entry.cause, entry.at) == ("wa:-:-", "streams", "undecodable", 3.0)
    assert entry.messages == ["wamid.1", "wamid.2"]
