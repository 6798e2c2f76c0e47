"""Webhook bodies of every kind are made from real ones with fresh ids, times and numbers."""

import json
from typing import Any

import pytest

from infra.simulator.freshen import change_values, freshen
from infra.simulator.webhooks import UnknownKindError, Wanted, build, dump, kinds, sign, text_body

NOW_S = 1_800_000_000
WANTED = Wanted(account="106540352242922", phone="16505550001", text="good morning", now_s=NOW_S, token="t")


def _value(kind: str, wanted: Wanted = WANTED) -> dict[str, Any]:
    (body,) = build(kind, wanted)
    return next(change_values(json.loads(body)))


@pytest.mark.parametrize("kind", [kind for kind in kinds() if not kind.startswith("invalid-")])
def test_every_kind_is_json_and_fresh(kind: str) -> None:
    """Every kind gives a body that is JSON; two tokens give different ids, one token the same body again."""
    bodies = build(kind, WANTED)
    assert bodies == build(kind, WANTED)
    for body in bodies:
        values = list(change_values(json.loads(body)))
        items = [item for value in values for name in ("messages", "statuses") for item in value.get(name, []) if "id" in item]
        if items:
            assert bodies != build(kind, Wanted(now_s=NOW_S, text="good morning", token="another"))


@pytest.mark.parametrize("kind", ["text", "image", "reply", "interactive", "list", "button"])
def test_numbers_and_text_are_those_asked_for(kind: str) -> None:
    """The account, the sender, the contact, the time and the words are the caller's."""
    value = _value(kind)
    (message,) = value["messages"]
    assert value["metadata"]["phone_number_id"] == "106540352242922"
    assert message["from"] == value["contacts"][0]["wa_id"] == "16505550001"
    assert message["timestamp"] == str(NOW_S)
    assert "good morning" in json.dumps(message)


@pytest.mark.parametrize("kind", ["sent", "delivered", "read", "failed", "played", "deleted"])
def test_a_status_speaks_of_the_message_asked_for(kind: str) -> None:
    """A status carries the platform id it was given, and its own name."""
    (status,) = _value(kind, Wanted(message_id="wamid.mine", now_s=NOW_S))["statuses"]
    assert (status["id"], status["status"], status["timestamp"]) == ("wamid.mine", kind, str(NOW_S))


def test_a_batch_keeps_its_people_apart() -> None:
    """Five senders stay five, each with the contact of the same number, and their order in time stays."""
    value = _value("multi-sender")
    senders = [message["from"] for message in value["messages"]]
    assert senders == [f"1650555000{number}" for number in range(1, 6)]
    assert {contact["wa_id"] for contact in value["contacts"]} == set(senders)
    times = [int(message["timestamp"]) for message in value["messages"]]
    assert times == sorted(times, reverse=True)
    assert times[0] == NOW_S
    assert len({message["id"] for message in value["messages"]}) == 5


def test_a_body_of_several_accounts_keeps_them_apart() -> None:
    """Several accounts in a body stay several; the first is the one asked for."""
    (body,) = build("multi-entry", WANTED)
    accounts = [value["metadata"]["phone_number_id"] for value in change_values(json.loads(body))]
    assert accounts[0] == "106540352242922"
    assert len(set(accounts)) == 2


def test_timestamps_keep_their_form() -> None:
    """A number stays a number and milliseconds stay milliseconds."""
    assert _value("odd-timestamp-integer.composed.1")["messages"][0]["timestamp"] == NOW_S
    assert _value("odd-timestamp-milliseconds.composed.1")["messages"][0]["timestamp"] == str(NOW_S * 1000)


def test_late_is_six_days_old() -> None:
    """A late message has an old timestamp."""
    assert _value("late")["messages"][0]["timestamp"] == str(NOW_S - 6 * 86_400)


def test_duplicate_is_the_same_body_twice() -> None:
    """A duplicate is byte for byte the same."""
    first, second = build("duplicate", WANTED)
    assert first == second


def test_a_user_without_a_number_has_only_an_id() -> None:
    """bsuid-only names no phone number anywhere."""
    assert b"16505550001" not in build("bsuid-only", WANTED)[0]
    assert _value("bsuid-only")["messages"][0]["from_user_id"] == _value("bsuid-only")["contacts"][0]["user_id"]


def test_unknown_types_and_fields_are_unknown() -> None:
    """Unknown and new-field are shaped like what the platform may bring tomorrow."""
    assert _value("unknown")["messages"][0]["type"] == "hologram"
    assert "messages" not in _value("new-field")


def test_history_has_threads() -> None:
    """History carries old messages in threads."""
    assert _value("history")["history"][0]["threads"][0]["messages"][0]["history_context"]


def test_a_changed_number_is_told_with_the_new_numbers() -> None:
    """A system message speaks of the number asked for and of the one after it, in its words too."""
    system = _value("system", Wanted(phone="16505550001", now_s=NOW_S))["messages"][0]["system"]
    assert system["wa_id"] == "16505550002"
    assert system["body"] == "User A changed from 16505550001 to 16505550002"


def test_an_unknown_kind_names_its_neighbours() -> None:
    """A misspelt kind is refused with near matches."""
    with pytest.raises(UnknownKindError) as caught:
        build("imag", WANTED)
    assert "image" in caught.value.near


def test_hostile_bodies_stay_byte_for_byte() -> None:
    """A stored invalid body is posted as it is."""
    assert build("invalid-truncated", WANTED)[0] == build("invalid-truncated", Wanted())[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(build("invalid-truncated", WANTED)[0])


def test_freshen_leaves_its_argument_alone() -> None:
    """The stored body is not changed, and what is not understood comes back as it was."""
    odd = {"object": "x", "entry": [{"changes": [{}, {"value": 7}, 3]}, "text", {"changes": "none"}], "more": [1]}
    before = json.dumps(odd)
    assert freshen(odd, WANTED) == odd
    assert json.dumps(odd) == before


def test_a_text_body_is_built_directly() -> None:
    """text_body makes the shape of the stored text body, with the given ids in their order."""
    texts = [("wamid.1", "äöü"), ("wamid.2", "more")]
    body = json.loads(text_body(account="1", phone="16505550001", texts=texts, at_s=5, name="Ottla"))
    value = next(change_values(body))
    stored = _value("text")
    assert set(value) == set(stored)
    assert set(value["messages"][0]) == set(stored["messages"][0])
    assert [(message["id"], message["text"]["body"]) for message in value["messages"]] == texts
    assert value["contacts"][0]["profile"]["name"] == "Ottla"


def test_the_signature_is_that_of_the_documented_example() -> None:
    """sign() gives the signature of the stored example over its raw bytes, and not over the same JSON written otherwise."""
    from pathlib import Path

    folder = Path(__file__).parents[2] / "infra/simulator/payloads/signature"
    example = json.loads((folder / "escaped_body.json").read_bytes())
    raw = (folder / "escaped_body.raw").read_bytes()
    secret = example["app_secret"].encode()
    assert sign(raw, secret)["X-Hub-Signature-256"] == example["X-Hub-Signature-256"]
    assert sign(json.dumps(json.loads(raw)).encode(), secret)["X-Hub-Signature-256"] != example["X-Hub-Signature-256"]
    assert json.loads(dump(json.loads(raw))) == json.loads(raw)
