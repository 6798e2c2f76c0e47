"""Parts into items: who wrote what, when, what it says, whether it is answered and where."""

import json
from typing import Any

import msgspec
import pytest

from schemas.events.inbound import Person
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, CHANNEL, RECEIVED_AT_MS, body, items, message, only_item, part_of, stored, value

_USER_ID = "US.13491208655302741918"


def _item(**members: Any) -> Any:
    return only_item(body(value(messages=[message(**members)])))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"text": {"body": "hello"}}, "hello"),
        ({"text": {"body": "a" * 200_000}}, "a" * 100_000),
        ({"type": "button", "button": {"text": "Yes", "payload": "p"}}, "Yes"),
        ({"type": "button", "button": {"payload": "p"}}, "p"),
        ({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Yes"}}}, "Yes"),
        ({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"title": "Row", "description": "d"}}}, "Row"),
        (
            {
                "type": "interactive",
                "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": '{"a":"x","n":[1],"flow_token":"t"}'}},
            },
            "a: x, n: [1]",
        ),
        (
            {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{bad"}}},
            "Sent {bad",
        ),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "[1]"}}}, "Sent [1]"),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent"}}}, "Sent"),
        (
            {"type": "interactive", "interactive": {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}}},
            "accept",
        ),
        ({"type": "image", "image": {"id": "1", "caption": "look"}}, "look"),
        ({"type": "image", "image": {"id": "1"}}, "[image]"),
        ({"type": "image"}, "[image]"),
        ({"type": "video", "video": {"caption": "see"}}, "see"),
        ({"type": "audio", "audio": {"id": "1", "voice": True}}, "[voice message]"),
        ({"type": "audio", "audio": {"id": "1", "voice": False}}, "[audio]"),
        ({"type": "voice", "voice": {"id": "1"}}, "[voice message]"),
        ({"type": "document", "document": {"filename": "a.pdf", "caption": "mine"}}, "[document a.pdf] mine"),
        ({"type": "document", "document": {"filename": "a.pdf"}}, "[document a.pdf]"),
        ({"type": "sticker", "sticker": {"id": "1", "animated": True}}, "[sticker]"),
        (
            {"type": "location", "location": {"latitude": 1.5, "longitude": -2, "name": "Here", "address": "There 1"}},
            "[location 1.5,-2 Here There 1]",
        ),
        ({"type": "location", "location": {"latitude": "1", "longitude": "2"}}, "[location 1,2]"),
        (
            {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ann B"}, "phones": [{"phone": "+1 2"}, {"wa_id": "3"}]}, {}, 5]},
            "[contacts Ann B +1 2 3]",
        ),
        ({"type": "contacts", "contacts": "odd"}, "[contacts]"),
        (
            {
                "type": "order",
                "order": {
                    "text": "quick",
                    "product_items": [{"product_retailer_id": "SKU", "quantity": 2}, {"product_retailer_id": "B", "quantity": "3"}],
                },
            },
            "[order 2 x SKU, 3 x B] quick",
        ),
        ({"type": "reaction", "reaction": {"message_id": "1", "emoji": "👍"}}, "👍"),
        ({"type": "reaction", "reaction": {"message_id": "1", "emoji": ""}}, ""),
        ({"type": "reaction", "reaction": {"message_id": "1"}}, ""),
        ({"type": "edit", "edit": {"original_message_id": "1", "message": {"type": "text", "text": {"body": "better"}}}}, "better"),
        ({"type": "edit", "edit": {"message": {"type": "edit", "edit": {}}}}, "[edit]"),
        ({"type": "revoke", "revoke": {"original_message_id": "1"}}, "[message deleted]"),
        ({"type": "unsupported", "errors": [{"code": 131051, "title": "Not supported"}]}, "[unsupported message Not supported]"),
        ({"type": "unsupported", "unsupported": {"type": "poll"}, "errors": [{"title": "Not supported"}]}, "[unsupported message poll]"),
        ({"type": "unknown", "errors": "odd"}, "[unsupported message]"),
        ({"type": "system", "system": {"type": "user_changed_number", "body": "A changed"}}, "A changed"),
        ({"type": "system", "system": {"type": "user_changed_user_id"}}, "[system user_changed_user_id]"),
        ({"type": "request_welcome"}, "[request_welcome]"),
        ({"type": "poll", "poll": {"question": "?"}}, "[poll]"),
        ({"type": "p" * 100}, "[" + "p" * 63 + "…]"),
        ({"type": 5}, "[5]"),
        ({"type": None}, ""),
        ({"type": "text", "text": "odd"}, ""),
    ],
)
def test_words(members: dict[str, Any], words: str) -> None:
    """An agent reads a message's own words, or a description in brackets; what is missing or odd is left out."""
    assert _item(**members).text == words


@pytest.mark.parametrize(
    ("members", "silence"),
    [
        ({}, ""),
        ({"type": "reaction", "reaction": {"emoji": "👍"}}, "reaction"),
        ({"type": "system", "system": {"body": "x"}}, "system"),
        ({"type": "unsupported"}, "unsupported"),
        ({"type": "unknown"}, "unknown"),
        ({"type": "poll"}, "unknown"),
        ({"type": None}, "unknown"),
        ({"type": ["text"]}, "unknown"),
        ({"type": "edit", "edit": {"message": {"type": "text", "text": {"body": "x"}}}}, "edit"),
        ({"type": "revoke"}, "revoke"),
        ({"type": "request_welcome"}, "request-welcome"),
        ({"type": "ephemeral"}, "ephemeral"),
        ({"type": "interactive", "interactive": {"type": "none"}}, "no-reply"),
        ({"type": "interactive"}, "no-reply"),
        ({"from": None}, "no-identity"),
        ({"from": "x" * 201}, "no-identity"),
        ({"text": {"body": " \n"}}, "empty"),
        ({"text": None}, "empty"),
    ],
)
def test_silences(members: dict[str, Any], silence: str) -> None:
    """Nobody waits for an answer to what no user wrote, and what cannot be answered says why."""
    item = _item(**members)
    assert (item.silence, item.answerable) == (silence, not silence)


def test_without_an_account_nobody_is_answered() -> None:
    """Messages and echoes that name no account are for an operator to see."""
    assert [item.silence for item in items(body({"messages": [message(), message(type="reaction")]}))] == ["no-account"] * 2
    assert only_item(body({"message_echoes": [{"to": "1"}]}, field="smb_message_echoes")).silence == "no-account"


def test_echoes_are_ours() -> None:
    """What people of the business wrote goes out, is not answered, and is about whom it went to."""
    echo = {"from": "15550783881", "to": "16505550001", "to_user_id": _USER_ID, "id": "wamid.2", "type": "text", "text": {"body": "hi"}}
    item = only_item(
        body(value(message_echoes=[echo], contacts=[{"user_id": _USER_ID, "profile": {"name": "Ann"}}]), field="smb_message_echoes")
    )
    assert (item.kind, item.direction, item.silence, item.text, item.id) == ("echo", "out", "echo", "hi", "wamid.2")
    assert item.person == Person(name="Ann", phone="16505550001", user_id=_USER_ID)
    assert only_item(body(value(message_echoes=[{"id": "1"}]), field="smb_message_echoes")).silence == "no-identity"


def test_old_messages_say_who_wrote_them() -> None:
    """In [history] a user's words come in, the business's go out, and a placeholder does not keep its picture from coming later."""
    written = [
        {"from": "15550783881", "id": "a", "type": "text", "text": {"body": "from us"}},
        {"from": "16505550001", "id": "b", "type": "text", "text": {"body": "from them"}},
        {"from": "15550783881", "to": "16505550001", "id": "c", "type": "media_placeholder"},
    ]
    found = items(body(value(history=[{"threads": [{"id": "+16505550001", "messages": written}]}]), field="history"))
    assert [(item.direction, item.silence, item.text) for item in found] == [
        ("out", "history", "from us"),
        ("in", "history", "from them"),
        ("out", "history", "[media_placeholder]"),
    ]
    picture = only_item(body(value(messages=[{"from": "16505550001", "id": "c", "type": "image"}]), field="history"))
    assert (picture.kind, picture.id, picture.silence) == ("history", "c", "history")
    assert found[2].id != picture.id


@pytest.mark.parametrize(
    ("members", "address"),
    [
        ({"from": "+1 650"}, ("+1 650", "phone")),
        ({"from": 16505550001}, ("16505550001", "phone")),
        ({"from": "16505550001", "from_user_id": _USER_ID}, ("16505550001", "phone")),
        ({"from": "", "from_user_id": _USER_ID}, (_USER_ID, "user")),
        ({"from": _USER_ID}, (_USER_ID, "user")),
        ({"from": "US.ENT.11815799212886844830"}, ("US.ENT.11815799212886844830", "user")),
        ({"from": "16505550001", "group_id": "G-1"}, ("G-1", "group")),
        ({"from": None}, ("", "")),
    ],
)
def test_answers_go_to_the_address_received(members: dict[str, Any], address: tuple[str, str]) -> None:
    """To the group, else to the phone number exactly as it came, else to the user id."""
    item = _item(**members)
    assert (item.reply_to, item.reply_to_kind) == address


def test_people_are_matched_by_number_or_id() -> None:
    """A name belongs to whom its contact names, wherever it stands; what a contact adds is kept, what it has not is empty."""
    contacts = [
        {"wa_id": "2", "profile": {"name": "Two"}},
        {"wa_id": "16505550001", "user_id": _USER_ID, "profile": {"username": "one"}},
        {"odd": True},
    ]
    first, second, third = items(body(value(contacts=contacts, messages=[message(), message(**{"from": "+2"}), message(**{"from": "3"})])))
    assert first.person == Person(name="one", phone="16505550001", user_id=_USER_ID)
    assert second.person == Person(name="Two", phone="+2")
    assert third.person == Person(phone="3")


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        ("1699999999", 1_699_999_999_000),
        (1699999999, 1_699_999_999_000),
        (1699999999.5, 1_699_999_999_000),
        ("1699999999000", 1_699_999_999_000),
        ("1699999999000000", 1_699_999_999_000),
        ("", RECEIVED_AT_MS),
        (None, RECEIVED_AT_MS),
        ("soon", RECEIVED_AT_MS),
        ("-5", RECEIVED_AT_MS),
        (0, RECEIVED_AT_MS),
        (True, RECEIVED_AT_MS),
        ("9" * 18, RECEIVED_AT_MS),
        ("9" * 5_000, RECEIVED_AT_MS),
        ("١٦٩٩٩٩٩٩٩٩", RECEIVED_AT_MS),
        ([], RECEIVED_AT_MS),
    ],
)
def test_times(timestamp: object, at_ms: int) -> None:
    """Seconds, milliseconds and microseconds, as text or number; what makes no sense is our own receiving time."""
    assert _item(timestamp=timestamp).at_ms == at_ms


def test_ids_are_the_platforms_or_a_hash() -> None:
    """An item without an id has the hash of what it is: the same again is the same, something else is not; ids are bounded."""
    assert _item(id="wamid.7").id == "wamid.7"
    assert _item(id=7).id == "7"
    assert len(_item(id="w" * 10_000).id) == 32
    assert _item(id=None).id == _item(id=None).id != _item(id=None, text={"body": "other"}).id
    assert len(_item(id=None).id) == 32


def test_notices_with_the_same_words_are_told_apart_by_their_time() -> None:
    """A rating that goes down a second time is news; the same notice sent again is not."""

    def at(time: int) -> str:
        change = {"field": "phone_number_quality_update", "value": {"event": "FLAGGED"}}
        return only_item(json.dumps({"entry": [{"id": "1", "time": time, "changes": [change]}]}).encode()).id

    assert at(1_699_999_999) == at(1_699_999_999) != at(1_700_000_000)


def test_kinds_without_a_user_say_what_they_are() -> None:
    """Calls, preferences, errors and notices are stored with a type, a time, and words where they have some."""
    call = only_item(stored("field-calls__david-lev-pywa__1"))
    assert (call.kind, call.type, call.direction, call.text, call.silence) == ("call", "connect", "out", "[call connect]", "call")
    preference = only_item(stored("field-user-preferences__david-lev-pywa__1"))
    assert (preference.type, preference.at_ms, preference.person.phone) == ("marketing_messages", 1_731_705_721_000, "16505551234")
    notice = only_item(stored("field-account-update__david-lev-pywa__1"))
    assert (notice.kind, notice.type, notice.text, notice.at_ms) == ("change", "account_update", "ACCOUNT_DELETED", 1_743_451_903_000)
    error = items(stored("field-calls__david-lev-pywa__4"))[1]
    assert (error.kind, error.type, error.text, error.at_ms) == ("error", "12455", "ERROR_TITLE ERROR_DETAILS", RECEIVED_AT_MS)


def test_a_bad_item_does_not_hold_up_its_siblings() -> None:
    """What cannot be read or is no object is an item of its own that says so, between the others."""
    part = part_of(
        "message",
        b'{"from":"1","type":"text","text":{"body":"a"}}',
        b"5",
        b'{"from":"1","type":"text","text":{"body":"\\ud800"}}',
        b"{bad",
        b"[" * 5_000 + b"]" * 5_000,
        b'{"type":"text"}',
    )
    found = list(CHANNEL.parse(part))
    assert [(item.kind, item.silence) for item in found] == [("message", ""), *[("unknown", "unparseable")] * 4, ("message", "no-identity")]
    assert found[1].payload == msgspec.Raw(b"5")
    assert len({item.id for item in found}) == len(found)


def test_an_edit_of_an_edit_of_an_edit_is_not_followed() -> None:
    """However deep edits are put into each other, they are read without recursing."""
    nested = b'{"type":"edit","edit":{"message":' * 300 + b'{"type":"text","text":{"body":"deep"}}' + b"}}" * 300
    (item,) = CHANNEL.parse(part_of("message", nested))
    assert (item.text, item.silence) == ("[edit]", "edit")


def test_payload_is_the_platforms_own_json() -> None:
    """What an item is made from goes along untouched."""
    raw = json.dumps(message(future={"new": [1]})).encode()
    assert only_item(body(value(messages=[message(future={"new": [1]})]))).payload == msgspec.Raw(raw)


def test_what_somebody_goes_by_from_now_on() -> None:
    """News of a changed number or user id stands under the old name and tells the new ones; other system messages tell none."""
    number = {"type": "system", "from": "15550001", "system": {"type": "user_changed_number", "wa_id": "15550002", "user_id": _USER_ID}}
    user = {"type": "system", "from": None, "system": {"type": "user_changed_user_id", "previous_user_id": "US.1", "user_id": _USER_ID}}
    other = {"type": "system", "from": "15550001", "system": {"type": "customer_identity_changed", "wa_id": "15550002"}}
    assert _item(**number).becomes == Person(phone="15550002", user_id=_USER_ID)
    assert (_item(**user).becomes, _item(**user).person) == (Person(user_id=_USER_ID), Person(user_id="US.1"))
    assert _item(**other).becomes == Person()
    update = {"wa_id": "15550001", "user_id": {"previous": "US.1", "current": _USER_ID}, "timestamp": "1699999999"}
    told = body(value(user_id_update=[update]), field="user_id_update")
    assert [part.key for part in CHANNEL.split(told, received_at_ms=RECEIVED_AT_MS)] == [f"wa:{ACCOUNT}:US.1"]
    item = only_item(told)
    assert (item.kind, item.silence, item.person) == ("identity", "identity", Person(phone="15550001", user_id="US.1"))
    assert item.becomes == Person(user_id=_USER_ID)
