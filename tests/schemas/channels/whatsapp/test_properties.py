"""What holds for any body: nothing but a refusal is ever raised, and every item comes out once, verbatim and in order."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.channels.base import Answer, BodyRefusedError, Item, StatusUpdate
from schemas.channels.whatsapp.walk import KIND_OF_ARRAY
from schemas.codec import DecodeError, decode, encode
from schemas.events.webhook_part import Change, WebhookPart
from schemas.ids import conversation_key
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, CHANNEL, RECEIVED_AT_MS, UNHURRIED, split

_KNOWN_NAMES = """
entry changes value field id time metadata phone_number_id contacts messages statuses message_echoes history threads calls errors
user_preferences from from_user_id to to_user_id group_id wa_id user_id recipient_id recipient_user_id recipient_type
recipient_participant_id biz_opaque_callback_data profile name type timestamp text body image caption voice filename location
latitude address phones phone formatted_name order product_items quantity interactive button_reply nfm_reply response_json title
reaction emoji edit message system unsupported error_data details code status direction event category detail error input fbtrace_id
"""
_NAMES = _KNOWN_NAMES.split()
_WORDS = [
    *_NAMES,
    *KIND_OF_ARRAY.values(),
    "group",
    "button",
    "revoke",
    "list_reply",
    "BUSINESS_INITIATED",
    "US.13491208655302741918",
    "+16505550001",
    "1699999999",
    "1699999999000",
    "media_placeholder",
    '{"a": 1}',
    "",
]
_TEXTS = st.sampled_from(_WORDS) | st.text(max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=5),
    max_leaves=30,
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES), _TREES, max_size=8)


def _check_parts(raw: bytes) -> None:
    try:
        parts = split(raw)
    except BodyRefusedError:
        return
    assert parts
    for part in parts:
        try:
            event = decode(part.value, WebhookPart)
        except DecodeError:
            assert (part.key, part.value) == ("wa:-:-", raw)
            continue
        assert event.conversation == part.key
        assert all(isinstance(item, Item) for item in CHANNEL.parse(event))
        assert all(isinstance(status, StatusUpdate) for status in CHANNEL.parse_statuses(event))


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Bytes of any kind are split or refused, nothing else."""
    _check_parts(raw)


@UNHURRIED
@given(_TREES)
def test_any_json(tree: Any) -> None:
    """JSON of any shape is split, and its parts can be read and parsed."""
    _check_parts(json.dumps(tree).encode())


@UNHURRIED
@given(st.lists(st.fixed_dictionaries({"value": _OBJECTS}, optional={"field": _TREES}), max_size=4), _TREES)
def test_any_change(changes: list[Any], time: Any) -> None:
    """Values of any shape in a proper envelope are split, and their parts can be read and parsed."""
    _check_parts(json.dumps({"entry": [{"id": "1", "time": time, "changes": changes}]}, ensure_ascii=False).encode("utf-8", "replace"))


@UNHURRIED
@given(
    st.sampled_from([*KIND_OF_ARRAY.values(), "change", "unknown", "odd"]),
    st.lists(_OBJECTS, max_size=3),
    st.lists(_TREES, max_size=2),
    st.sampled_from(["-", ACCOUNT]),
)
def test_any_item_is_parsed(kind: str, items: list[Any], contacts: list[Any], account: str) -> None:
    """One item comes out of each that goes in, answerable or with a reason; every event made of it can be written."""
    change = Change(kind=kind, field="messages", items=[_raw(item) for item in items], contacts=[_raw(contact) for contact in contacts])
    part = WebhookPart(channel="whatsapp", account=account, conversation=f"wa:{account}:1", received_at=RECEIVED_AT_MS, changes=[change])
    parsed: list[Item | StatusUpdate] = [*CHANNEL.parse(part), *CHANNEL.parse_statuses(part)]
    assert len(parsed) == len(items)
    for item in parsed:
        assert encode(item)
        if isinstance(item, Item):
            assert item.answerable is not bool(item.silence)
            assert item.id
            assert not item.answerable or (item.reply_to and item.text.strip() and account != "-")


def _raw(tree: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(tree).encode())


@UNHURRIED
@given(
    st.integers(0, 999),
    st.binary(max_size=100) | _TREES.map(lambda tree: json.dumps(tree).encode()),
    st.dictionaries(st.sampled_from(["Retry-After", "x-business-use-case-usage"]), _TREES.map(json.dumps) | st.text()),
)
def test_any_answer_is_understood(status: int, raw: bytes, headers: dict[str, str]) -> None:
    """Whatever answers a send, with whatever bytes, is understood as something, with a bounded wait."""
    answer = CHANNEL.read_answer(status, raw, headers)
    assert isinstance(answer, Answer)
    assert 0 <= answer.retry_after_s <= 3_600


@dataclass(frozen=True)
class _Made:
    """An item as it stands in a body, and where it must come out."""

    text: str
    kind: str
    topic: str
    key: str


@st.composite
def _made_items(draw: st.DrawFn, array: str, account: str, serial: int) -> _Made:
    """Return an item of an array, with its members in any order and blanks anywhere."""
    kind = KIND_OF_ARRAY[array]
    contact = draw(st.sampled_from(["16505550001", "16505550002", "US.13491208655302741918", ""]))
    user, phone = {"message": ("from_user_id", "from"), "status": ("recipient_user_id", "recipient_id"), "echo": ("to_user_id", "to")}.get(
        kind, ("user_id", "wa_id")
    )
    members = {"id": f"item-{serial}", "x": draw(_SCALARS)}
    if contact:
        members[user if contact.startswith("US") else phone] = contact
    if kind == "call":
        members = {"id": f"item-{serial}", "from": contact, "direction": "USER_INITIATED"}
    order = draw(st.permutations(list(members.items())))
    blank = draw(st.sampled_from(["", " ", "\n\t"]))
    text = "{" + ",".join(f"{blank}{json.dumps(name)}{blank}:{json.dumps(member)}" for name, member in order) + blank + "}"
    key = conversation_key(channel="wa", account=account, contact="" if kind == "error" else contact)
    return _Made(text, kind, "status" if kind == "status" else "raw", key)


@st.composite
def _made_bodies(draw: st.DrawFn) -> tuple[str, list[_Made]]:
    """Return a body of several entries, accounts and arrays, and all its items in order."""
    made: list[_Made] = []
    entries = []
    for _ in range(draw(st.integers(1, 3))):
        changes = []
        for _ in range(draw(st.integers(1, 3))):
            account = draw(st.sampled_from(["1", "2"]))
            members = [f'"metadata":{{"phone_number_id":"{account}"}}']
            for array in draw(st.lists(st.sampled_from([name for name in KIND_OF_ARRAY if name != "history"]), min_size=1, unique=True)):
                items = [draw(_made_items(array, account, len(made) + index)) for index in range(draw(st.integers(1, 4)))]
                made += items
                members.append(f'"{array}": [' + " , ".join(item.text for item in items) + "]")
            changes.append('{"field":"messages","value":{' + ",".join(members) + "}}")
        entries.append('{"id":"9","changes":[' + ",".join(changes) + "]}")
    return '{"object":"whatsapp_business_account","entry":[' + ", ".join(entries) + "]}", made


@UNHURRIED
@given(_made_bodies())
def test_every_item_comes_out_once_verbatim_and_in_order(made: tuple[str, list[_Made]]) -> None:
    """In its own conversation, on its own topic, of its own kind, byte for byte, in the order of the body."""
    text, items = made
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    parts = split(text.encode())
    for part in parts:
        for change in decode(part.value, WebhookPart).changes:
            found.setdefault((part.topic, part.key), []).extend((change.kind, bytes(item).decode()) for item in change.items)
    expected: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for item in items:
        expected.setdefault((item.topic, item.key), []).append((item.kind, item.text))
    assert found == expected
    assert len(parts) == len(expected)
