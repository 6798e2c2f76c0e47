"""A body into parts: whose each item is, what is kept together, and that nothing falls on the floor."""

import json
import random
from typing import Any

import pytest

from schemas.ids import callback_data, key_hash
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, body, events, message, split, stored, value

_USER_ID = "US.13491208655302741918"


def _keys(raw: bytes) -> list[str]:
    return [part.key for part in split(raw)]


@pytest.mark.parametrize(
    ("sender", "contact"),
    [
        ({"from": "16505550001"}, "16505550001"),
        ({"from": "+16505550001"}, "16505550001"),
        ({"from": 16505550001}, "16505550001"),
        ({"from": "16505550001", "from_user_id": _USER_ID}, _USER_ID),
        ({"from": "", "from_user_id": _USER_ID}, _USER_ID),
        ({"from": None, "from_user_id": _USER_ID}, _USER_ID),
        ({"from_user_id": _USER_ID}, _USER_ID),
        ({"from": _USER_ID}, _USER_ID),
        ({"from": "16505550001", "from_user_id": ""}, "16505550001"),
        ({"from": "16505550001", "from_user_id": None}, "16505550001"),
        ({"from": "16505550001", "from_user_id": {"odd": 1}}, "16505550001"),
        ({"from": "16505550001", "from_user_id": _USER_ID, "group_id": "G-1"}, "G-1"),
        ({"from": "16505550001", "group_id": ""}, "16505550001"),
        ({}, "-"),
        ({"from": ""}, "-"),
        ({"from": None}, "-"),
        ({"from": True}, "-"),
        ({"from": 1.5}, "-"),
        ({"from": ["1"]}, "-"),
        ({"from": "1/2:3 4"}, "1%2F2%3A3%204"),
    ],
)
def test_conversation_of_a_message(sender: dict[str, Any], contact: str) -> None:
    """A message belongs to its group, else to the business-scoped id, else to the phone number; absent, null and empty are alike."""
    raw = body(value(messages=[{"id": "wamid.1", "type": "text", **sender}]))
    assert _keys(raw) == [f"wa:{ACCOUNT}:{contact}"]


def test_conversation_does_not_depend_on_the_order_of_keys() -> None:
    """Whatever comes first in an item, its conversation is the same."""
    members = list({"from": "16505550001", "from_user_id": _USER_ID, "id": "wamid.1", "type": "text", "x": {"from": "2"}}.items())
    shuffle = random.Random(7).shuffle
    for _ in range(10):
        shuffle(members)
        assert _keys(body(value(messages=[dict(members)]))) == [f"wa:{ACCOUNT}:{_USER_ID}"]


@pytest.mark.parametrize(
    ("recipient", "contact"),
    [
        ({"recipient_id": "16505550001"}, "16505550001"),
        ({"recipient_id": "16505550001", "recipient_user_id": _USER_ID}, _USER_ID),
        ({"recipient_user_id": _USER_ID}, _USER_ID),
        ({"recipient_id": "G-1", "recipient_type": "group", "recipient_user_id": _USER_ID}, "G-1"),
        ({"recipient_id": "16505550001", "recipient_type": "individual"}, "16505550001"),
        ({}, "-"),
    ],
)
def test_conversation_of_a_status(recipient: dict[str, Any], contact: str) -> None:
    """A status belongs to whom its message went: the group, else the business-scoped id, else the phone number."""
    raw = body(value(statuses=[{"id": "wamid.1", "status": "sent", **recipient}]))
    (part,) = split(raw)
    assert (part.topic, part.key, part.partition_hash) == ("status", f"wa:{ACCOUNT}:{contact}", None)


def test_status_of_ours_goes_to_the_partition_of_its_send() -> None:
    """Callback data of ours pick the partition, also where the platform names the recipient otherwise; foreign data do not."""
    conversation = f"wa:{ACCOUNT}:16505550001"
    ours = callback_data(send="0" * 32, conversation=conversation)
    status = {"id": "wamid.1", "status": "sent", "recipient_id": "16505550001", "recipient_user_id": _USER_ID}
    raw = body(value(statuses=[status | {"biz_opaque_callback_data": ours}, status | {"biz_opaque_callback_data": "theirs"}, status]))
    first, second = split(raw)
    assert (first.key, first.partition_hash) == (f"wa:{ACCOUNT}:{_USER_ID}", key_hash(conversation.encode()))
    assert (second.key, second.partition_hash) == (f"wa:{ACCOUNT}:{_USER_ID}", None)
    assert [len(change.items) for event in events(raw) for change in event.changes] == [1, 2]


def test_old_messages_belong_to_their_thread() -> None:
    """In [history], what the business wrote is in the conversation with whom the thread is; chunk data and errors are the account's."""
    thread = {"id": "16505551234", "messages": [{"from": "15550783881", "id": "a"}, {"from": "16505551234", "id": "b"}]}
    chunk = {"metadata": {"phase": 0}, "threads": [thread, {"id": "1", "messages": [{"from": "1"}, 7]}], "errors": [{"code": 1}]}
    found = [
        (event.conversation, change.kind, change.path, [bytes(item) for item in change.items])
        for event in events(body(value(history=[chunk, "odd", {}]), field="history"))
        for change in event.changes
    ]
    assert found == [
        (
            f"wa:{ACCOUNT}:16505551234",
            "history",
            "entry.0.changes.0.history.0.threads.0.messages.0",
            [b'{"from": "15550783881", "id": "a"}', b'{"from": "16505551234", "id": "b"}'],
        ),
        (f"wa:{ACCOUNT}:1", "history", "entry.0.changes.0.history.0.threads.1.messages.0", [b'{"from": "1"}']),
        (f"wa:{ACCOUNT}:-", "unknown", "entry.0.changes.0.history.0.threads.1.messages.1", [b"7"]),
        (f"wa:{ACCOUNT}:-", "error", "entry.0.changes.0.history.0.errors.0", [b'{"code": 1}']),
        (f"wa:{ACCOUNT}:-", "unknown", "entry.0.changes.0.history.0.metadata", [b'{"phase": 0}']),
        (f"wa:{ACCOUNT}:-", "unknown", "entry.0.changes.0.history.1", [b'"odd"', b"{}"]),
    ]


def test_messages_count_in_their_own_field_only() -> None:
    """Messages of [history] are old ones; in a field that nobody knows, the whole value is one item and nobody is answered."""
    assert _kinds(body(value(messages=[message()]), field="history")) == ["history"]
    assert _kinds(body(value(messages=[message()]), field="standby")) == ["change"]
    assert _kinds(body(value(messages=[message()], message_echoes=[message(to="1")]), field="smb_message_echoes")) == ["unknown", "echo"]
    assert _kinds(json.dumps({"entry": [{"changes": [{"value": value(messages=[message()])}]}]}).encode()) == ["message"]


def _kinds(raw: bytes) -> list[str]:
    return [change.kind for event in events(raw) for change in event.changes]


def test_account_is_a_dash_where_nobody_says_it() -> None:
    """Without metadata, or without an id in it, the account is `-`; as a number it is as good as text."""
    assert _keys(body({"messages": [message()]})) == ["wa:-:16505550001"]
    assert _keys(body({"metadata": {"phone_number_id": ""}, "messages": [message()]})) == ["wa:-:16505550001"]
    assert _keys(body({"metadata": 5, "messages": [message()]})) == ["wa:-:16505550001"]
    (event,) = events(body({"metadata": {"phone_number_id": 106540352242922}, "messages": [message()]}))
    assert (event.account, event.conversation) == (ACCOUNT, f"wa:{ACCOUNT}:16505550001")


def test_neighbours_share_one_change() -> None:
    """Items of one conversation, array and kind are kept together, in order, with what came beside them once."""
    raw = body(value(messages=[message(id="a"), message(id="b", **{"from": "2"}), message(id="c")], contacts=[{"wa_id": "16505550001"}]))
    first, second = events(raw)
    (change,) = first.changes
    assert [json.loads(bytes(item))["id"] for item in change.items] == ["a", "c"]
    assert (change.field, change.entry, change.path) == ("messages", "1", "entry.0.changes.0.messages.0")
    assert json.loads(bytes(change.metadata))["phone_number_id"] == ACCOUNT
    assert second.changes[0].path == "entry.0.changes.0.messages.1"


def test_kinds_are_kept_apart_and_in_order() -> None:
    """Of one array and conversation, what is no object is of another kind than its neighbours."""
    (event,) = events(body(value(messages=[{"id": "a"}, {"id": "b"}, 1, {"id": "c"}])))
    assert [(change.kind, len(change.items)) for change in event.changes] == [("message", 2), ("unknown", 1), ("message", 1)]


def test_a_number_with_and_without_its_plus_is_one_part() -> None:
    """One record for a conversation and body, however the number is written."""
    (event,) = events(body(value(messages=[message(id="a", **{"from": "+1"}), message(id="b", **{"from": "1"})])))
    assert [len(change.items) for change in event.changes] == [2]


def test_contacts_go_with_those_they_name() -> None:
    """Contacts are matched by phone number or user id, never by their place; with one conversation all of them stay."""
    contacts = [{"wa_id": "2", "profile": {"name": "B"}}, {"user_id": _USER_ID}, {"wa_id": "3"}, {"odd": 1}, 5]
    raw = body(value(contacts=contacts, messages=[message(**{"from": "+2"}), message(from_user_id=_USER_ID), message(**{"from": "4"})]))
    found = {event.conversation.split(":")[2]: [bytes(contact) for contact in event.changes[0].contacts] for event in events(raw)}
    assert found == {"2": [b'{"wa_id": "2", "profile": {"name": "B"}}'], _USER_ID: [b'{"user_id": "' + _USER_ID.encode() + b'"}'], "4": []}
    (event,) = events(body(value(contacts=contacts, messages=[message()])))
    assert len(event.changes[0].contacts) == len(contacts)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ({}, [("unknown", "", "{}")]),
        ({"object": "page", "entry": []}, [("unknown", "", '{"object": "page", "entry": []}')]),
        ({"entry": "odd"}, [("unknown", "", '{"entry": "odd"}')]),
        ({"entry": {"changes": []}}, [("unknown", "entry", '{"changes": []}')]),
        ({"entry": [5, None, {}]}, [("unknown", "entry.0", "5"), ("unknown", "entry.0", "null"), ("unknown", "entry.0", "{}")]),
        ({"entry": [{"id": "1"}]}, [("unknown", "entry.0", '{"id": "1"}')]),
        ({"entry": [{"messaging": [{"mid": 1}]}]}, [("unknown", "entry.0", '{"messaging": [{"mid": 1}]}')]),
        ({"entry": [{"changes": {}}]}, [("unknown", "entry.0", '{"changes": {}}')]),
        (
            {"entry": [{"changes": ["odd", {"field": "messages"}]}]},
            [("unknown", "entry.0.changes.0", '"odd"'), ("unknown", "entry.0.changes.0", '{"field": "messages"}')],
        ),
        ({"entry": [{"changes": [{"field": "x", "value": [1]}]}]}, [("unknown", "entry.0.changes.0", '{"field": "x", "value": [1]}')]),
        ({"entry": [{"changes": [{"field": "x", "value": {"event": "Y"}}]}]}, [("change", "entry.0.changes.0", '{"event": "Y"}')]),
        ({"entry": [{"changes": [{"value": {"messages": []}}]}]}, [("change", "entry.0.changes.0", '{"messages": []}')]),
        ({"entry": [{"changes": [{"value": {"messages": {"id": 1}}}]}]}, [("change", "entry.0.changes.0", '{"messages": {"id": 1}}')]),
        (
            {"entry": [{"changes": [{"value": {"messages": [1, "x"], "news": [{}, 2], "mood": "good", "none": None}}]}]},
            [
                ("unknown", "entry.0.changes.0.messages.0", "1"),
                ("unknown", "entry.0.changes.0.messages.0", '"x"'),
                ("unknown", "entry.0.changes.0.news.0", "{}"),
                ("unknown", "entry.0.changes.0.news.0", "2"),
                ("unknown", "entry.0.changes.0.mood", '"good"'),
            ],
        ),
        (
            {
                "entry": [{"changes": [{"value": {"event": "Y"}, "more": [1], "scalar": 1}], "also": {"a": 1}, "time": 7}],
                "all": [2],
                "none": [],
            },
            [
                ("change", "entry.0.changes.0", '{"event": "Y"}'),
                ("unknown", "entry.0.changes.0.more", "[1]"),
                ("unknown", "entry.0.also", '{"a": 1}'),
                ("unknown", "all", "[2]"),
            ],
        ),
        ({"entry": [{"changes": [{"value": {"errors": [{"code": 1}]}}]}]}, [("error", "entry.0.changes.0.errors.0", '{"code": 1}')]),
        (
            {"entry": [{"changes": [{"field": "flows", "value": {"errors": [{"rate": 1}]}}]}]},
            [("change", "entry.0.changes.0", '{"errors": [{"rate": 1}]}')],
        ),
        (
            {"entry": [{"changes": [{"value": {"messages": [{}], "contacts": {"odd": 1}}}]}]},
            [("message", "entry.0.changes.0.messages.0", "{}"), ("unknown", "entry.0.changes.0.contacts", '{"odd": 1}')],
        ),
    ],
)
def test_nothing_falls_on_the_floor(raw: dict[str, Any], kept: list[tuple[str, str, str]]) -> None:
    """Whatever leaves the documented shape is kept verbatim at the level where it does, and never taken for more than it is."""
    found = [
        (change.kind, change.path, bytes(item).decode())
        for event in events(json.dumps(raw).encode())
        for change in event.changes
        for item in change.items
    ]
    assert sorted(found) == sorted(kept)


def test_time_and_id_of_the_entry_are_kept() -> None:
    """A notice without an id of its own is told from the next one by its entry's time."""
    (event,) = events(json.dumps({"entry": [{"id": 5, "time": 1743451903, "changes": [{"field": "x", "value": {}}]}]}).encode())
    assert (event.changes[0].entry, event.changes[0].time, event.changes[0].field) == ("5", 1743451903, "x")
    assert bytes(event.changes[0].metadata) == b"null"


def test_a_thousand_updates_of_many_people() -> None:
    """The largest batch the platform sends: every update once, in its own conversation, in order, messages and statuses mixed."""
    changes = [
        value(
            messages=[message(id=f"m{index}", **{"from": str(index % 97)})], statuses=[{"id": f"s{index}", "recipient_id": str(index % 89)}]
        )
        for index in range(500)
    ]
    seen: dict[tuple[str, str], list[str]] = {}
    for part, event in zip(split(body(*changes)), events(body(*changes)), strict=True):
        for change in event.changes:
            seen.setdefault((part.topic, part.key), []).extend(json.loads(bytes(item))["id"] for item in change.items)
    assert sum(len(ids) for ids in seen.values()) == 1_000
    for (topic, key), ids in seen.items():
        contact = int(key.split(":")[2])
        prefix, people = ("m", 97) if topic == "raw" else ("s", 89)
        assert ids == [f"{prefix}{index}" for index in range(500) if index % people == contact]


def test_thousand_messages_of_one_person_cost_their_own_bytes() -> None:
    """A stored batch of 1,000 messages is one record, hardly larger than the body."""
    raw = stored("batch-1000-messages__composed__1")
    (part,) = split(raw)
    assert len(part.value) < len(raw)
