"""The usual body: cut without a walk, into the very parts that the walk makes."""

import json

import msgspec
import pytest

from infra.simulator.signing import dump
from schemas.channels.base import BodyRefusedError
from schemas.channels.whatsapp.json_text import UnreadableError, plain_tree_of, text_of, tree_of
from schemas.channels.whatsapp.usual import usual_part
from schemas.channels.whatsapp.walk import walk
from schemas.ids import callback_data
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, PAYLOADS, RECEIVED_AT_MS, body, message, value
from tests.torture.mutants import body_of

_STATUS = {"id": "wamid.2", "status": "sent", "timestamp": "1", "recipient_id": "16505550001"}


def _is_usual(raw: bytes) -> bool:
    """Tell whether a body is cut without a walk, and make sure that a walk makes the same of it."""
    try:
        tree = tree_of(text_of(raw))
    except (BodyRefusedError, UnreadableError):
        return False
    part = usual_part(tree, raw, received_at_ms=RECEIVED_AT_MS)
    plain = plain_tree_of(raw)
    if plain is not None:
        assert usual_part(plain, raw, received_at_ms=RECEIVED_AT_MS) == part
    if part is not None:
        assert [part] == walk(tree, msgspec.Raw(raw)).close(received_at_ms=RECEIVED_AT_MS)
    return part is not None


def test_what_the_platform_sends_most_is_usual() -> None:
    """One message of any type, or one status."""
    usual = {path.stem.split("__")[0] for path in PAYLOADS.glob("*.json") if _is_usual(path.read_bytes())}
    assert usual > {
        "msg-text-bsuid",
        "msg-image-bsuid",
        "msg-interactive-button-reply-bsuid",
        "msg-system-user-changed-number",
        "status-sent-bsuid",
        "status-read-bsuid",
        "status-failed-bsuid",
    }


def test_mutants_are_cut_as_the_walk_cuts_them() -> None:
    """Whatever was done to a body: if it still passes for a usual one, its parts are the same, byte for byte and in order."""
    assert sum(_is_usual(body_of(11, number)) for number in range(1_500)) > 100


@pytest.mark.parametrize(
    "raw",
    [
        body(value(messages=[message()], calls=[{"from": "1"}])),
        body(value(messages=[message()], errors=[{"code": 1}])),
        body(value(messages=[message()], news=1)),
        body(value(messages=[message()]), field="history"),
        body(value(messages=[message()])).replace(b'"field": "messages"', b'"field": 5'),
        body(value(messages=[message(), "text"])),
        body(value(messages=[None])),
        body(value(messages=["text"])),
        body(value(messages=[message()], contacts=[None, {"wa_id": "16505550001"}])),
        body(value(messages=[message()], statuses=[_STATUS])),
        body(value(messages=[message(), message()])),
        body(value(messages=[message()]), value(messages=[message()])),
        body(value(messages={"0": message()})),
        body(value(messages=None, statuses=[_STATUS])),
        body(value(messages=[], statuses=[])),
        body(value(messages=[message()], contacts={"wa_id": "1"})),
        body(value(messages=[message()], metadata=ACCOUNT)),
        body(value(messages=[message()], metadata=None)),
        body({"messages": [message()]}),
        body(),
        b'{"object":"whatsapp_business_account","entry":[]}',
        body(value(messages=[message()])).replace(b'"object"', b'"news":[1],"object"'),
        body(value(messages=[message()])).replace(b'"id": "1"', b'"id": 1'),
        body(value(messages=[message()])).replace(b'"id": "1"', b'"time": -1'),
        body(value(messages=[message()])).replace(b'"id": "1"', b'"time": 99999999999999'),
    ],
)
def test_what_may_hold_anything_else_is_walked_over(raw: bytes) -> None:
    """Other arrays, fields and types are left to the walk, which keeps every one of them."""
    assert not _is_usual(raw)


@pytest.mark.parametrize(
    "raw",
    [
        body(value(messages=[], statuses=[_STATUS])),
        body(value(messages=[message()], contacts=[{"wa_id": "16505550002"}, 5])),
        body(value(messages=[message()], metadata={"phone_number_id": 5})),
        body(value(messages=[message()], metadata={"phone_number_id": "1" * 300})),
        body(value(messages=[message()], metadata={})),
        body(value(messages=[message(**{"from": 16505550001})])),
        body(value(messages=[message()])).replace(b'"id": "1"', b'"id": " 1 ", "time": 1700000000'),
        body(value(statuses=[_STATUS | {"biz_opaque_callback_data": callback_data(send="0" * 32, conversation="wa:1:2")}])),
        dump(json.loads(body(value(messages=[message(text={"body": "https://example.org/"})])))),
    ],
)
def test_contacts_accounts_and_envelope_are_kept(raw: bytes) -> None:
    """Whomever the contacts name, whatever the account is called, whatever the entry says of itself, and with blanks."""
    assert _is_usual(raw)


@pytest.mark.parametrize(
    ("raw", "is_plain"),
    [
        (b'{"a":"https:\\/\\/example.org"}', True),
        ('{"a":"שלום"}'.encode(), True),
        (b'{"a":[1,2.5,true,null,{}]}', True),
        (b'{"a":1,"a":2}', False),
        (b'{"a":[{"b":1,"c":{"d":1,"d":1}}]}', False),
        (b'{"a":1,"\\u0061":2}', False),
        (b'{"a":"\\u05e9"}', False),
        (b'{"a":"\\ud800"}', False),
        (b'{"a":"https://example.org"}', False),
        (b'{"a": 1}', False),
        (b'{"a":-0}', False),
        (b'{"a":1e2}', False),
        (b'{"a":123456789012345678901234567890}', True),
        (b'{"a":' + b"1" * 5_000 + b"}", False),
        (b'\xef\xbb\xbf{"a":1}', False),
        (b'{"a":"\xff"}', False),
        (b'{"a":NaN}', False),
        (b'{"a":1', False),
        (b"", False),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", False),
    ],
)
def test_what_is_plain_comes_out_as_it_went_in(raw: bytes, *, is_plain: bool) -> None:
    """Two equal keys, at any depth and in any spelling, make the body another one when it is written again."""
    assert (plain_tree_of(raw) is not None) is is_plain
