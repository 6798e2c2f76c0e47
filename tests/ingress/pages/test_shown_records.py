"""What a list says of a record, whatever its bytes are."""

import orjson
import pytest

from infra.kafka.record import Record
from ingress.pages.shown_records import CONTENT_LENGTH_MAX, shown_record
from schemas.events.canary import canary_keys
from schemas.topics import TOPICS


def record(topic: str, value: bytes, *, key: bytes = b"wa:1:2", offset: int = 7, time_ms: int = 5) -> Record:
    return Record(topic=topic, partition=1, offset=offset, key=key, value=value, headers=[], timestamp_ms=time_ms)


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS])
@pytest.mark.parametrize("value", [b"", b"\xff\x00<script>", b"[" * 5_000, b'{"v":1}', b"9" * 5_000, b'"' + b"\xe2\x80\xae" * 9_000 + b'"'])
def test_any_bytes_are_shown(topic: str, value: bytes) -> None:
    """Bounded, and never an error."""
    shown = shown_record(record(topic, value))
    assert shown.says
    assert len(shown.content) <= CONTENT_LENGTH_MAX + 1


def test_secrets_are_masked() -> None:
    """Also where the record cannot be read."""
    account = {"v": "account.1", "id": "a", "phone_number_id": "1", "tenant": "t", "token": "s3cret", "app_secret": "s3cret"}
    for value in (orjson.dumps(account), b'{"token":"s3cret"', b's3cret"'):
        shown = shown_record(record("accounts", value, key=b"a"))
        assert "s3cret" not in shown.says + shown.content


def test_order_and_conversation() -> None:
    """The order is that of time, then of places; a canary's key, and one that is no conversation's, lead to none."""
    orders = [shown_record(record("raw", b"{}", offset=offset, time_ms=time_ms)).order for time_ms, offset in ((5, 9), (5, 10), (12, 1))]
    assert orders == sorted(orders)
    assert shown_record(record("raw", b"{}")).conversation == "wa:1:2"
    assert shown_record(record("raw", b"{}", key=canary_keys(1)[0].encode())).conversation == ""
    assert shown_record(record("audit", b"{}", key=b"redrive-7")).conversation == ""
