"""Events as bytes: JSON with a version that is checked, and CloudEvents headers."""

import json

import msgspec
import pytest

from schemas.codec import DecodeError, cloud_event_headers, decode, encode
from schemas.events.config import Tenant
from schemas.events.webhook_part import Change, WebhookPart


def _part(**members: object) -> bytes:
    usual = {"v": 1, "channel": "whatsapp", "account": "1", "conversation": "wa:1:2", "received_at": 1, "changes": []}
    return json.dumps(usual | members).encode()


def test_version_is_written_and_checked() -> None:
    """Any Kafka tool reads the version; a record of another version is refused rather than half understood."""
    assert json.loads(encode(Tenant(id="a"))) == {"v": 1, "id": "a"}
    assert decode(b'{"id":"a","v":1}', Tenant) == Tenant(id="a")
    with pytest.raises(DecodeError, match="v"):
        decode(b'{"id":"a","v":2}', Tenant)


def test_new_fields_of_the_same_version_are_ignored() -> None:
    """An older reader goes on when a newer writer adds a field."""
    assert decode(_part(news={"a": [1]}), WebhookPart).conversation == "wa:1:2"


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"null", b"{}", b"\xff", _part(received_at="1"), _part(changes=[5]), b"[" * 100_000, _part(account=None)]
)
def test_what_is_no_event_says_so(value: bytes) -> None:
    """Bytes of any kind are refused by one error that names the event."""
    with pytest.raises(DecodeError, match="WebhookPart"):
        decode(value, WebhookPart)


def test_the_platforms_own_json_stays_as_it_is() -> None:
    """Items, contacts and metadata go through untouched, blanks and escapes included."""
    raw = msgspec.Raw(b'{ "a" : "\\u00e4\\/" }')
    part = WebhookPart(
        channel="whatsapp",
        account="1",
        conversation="wa:1:2",
        received_at=1,
        changes=[Change(kind="message", field="messages", metadata=raw, contacts=[raw], items=[raw, raw])],
    )
    (change,) = decode(encode(part), WebhookPart).changes
    assert [bytes(each) for each in (change.metadata, *change.contacts, *change.items)] == [bytes(raw)] * 4


def test_metadata_may_be_missing() -> None:
    """A change without metadata is written without them and read as null."""
    change = Change(kind="change", field="x")
    part = WebhookPart(channel="whatsapp", account="-", conversation="wa:-:-", received_at=1, changes=[change])
    assert json.loads(encode(part))["changes"] == [{"kind": "change", "field": "x"}]
    assert bytes(decode(encode(part), WebhookPart).changes[0].metadata) == b"null"


def test_headers_are_those_of_cloud_events() -> None:
    """Id, type, source and time, in the Kafka binding's spelling."""
    headers = cloud_event_headers(event_id="e1", event_type="ottla.raw", source="ingress", time_ms=1_700_000_000_123)
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_type", b"ottla.raw"),
        ("ce_source", b"/ottla/ingress"),
        ("ce_time", b"2023-11-14T22:13:20.123+00:00"),
    ]
