"""Ids: the same from the same, safe wherever they stand, and placed by Kafka where Kafka's own hash places them."""

import re

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    account_of_key,
    callback_data,
    conversation_key,
    event_id,
    key_hash,
    read_callback_data,
    send_id,
    split_conversation_key,
)

_ANY_TEXT = st.text(st.characters(), max_size=40)


@given(st.binary(max_size=70))
def test_hash_is_that_of_kafkas_own_partitioner(key: bytes) -> None:
    """Producers of any kind place a key alike."""
    assert key_hash(key) == murmur2(key) & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("key", "expected"), [(b"", 275646681), (b"21", 1173551340), (b"foobar", 1357151166), (b"a-little-bit-long-string", 1161502112)]
)
def test_hash_of_known_keys(key: bytes, expected: int) -> None:
    """Values of Kafka's own tests, without their sign."""
    assert key_hash(key) == expected


@pytest.mark.parametrize(
    ("account", "contact", "key"),
    [
        ("106540352242922", "16505550001", "wa:106540352242922:16505550001"),
        ("106540352242922", "+16505550001", "wa:106540352242922:16505550001"),
        ("106540352242922", "US.13491208655302741918", "wa:106540352242922:US.13491208655302741918"),
        ("", "", "wa:-:-"),
        ("1", "+", "wa:1:-"),
        ("a:b", "c/d e", "wa:a%3Ab:c%2Fd%20e"),
        ("1", "שלום", "wa:1:%D7%A9%D7%9C%D7%95%D7%9D"),
    ],
)
def test_conversation_key(account: str, contact: str, key: str) -> None:
    """Channel, account and contact, the number without its plus, a dash for what is missing."""
    assert conversation_key(channel="wa", account=account, contact=contact) == key


@given(_ANY_TEXT | st.text(min_size=150, max_size=400), _ANY_TEXT)
def test_conversation_key_is_safe(account: str, contact: str) -> None:
    """A key of anything is short, has three parts, and may stand in a URL and a log."""
    key = conversation_key(channel="wa", account=account, contact=contact)
    assert re.fullmatch(r"wa(:[A-Za-z0-9._~%-]{1,200}){2}", key)
    assert split_conversation_key(key)[0] == "wa"


@given(_ANY_TEXT, _ANY_TEXT)
def test_different_contacts_have_different_keys(one: str, other: str) -> None:
    """Two people never share a conversation; the plus and the dash of nobody aside."""
    same = one.removeprefix("+") == other.removeprefix("+") or {one.removeprefix("+"), other.removeprefix("+")} == {"", "-"}
    first, second = (conversation_key(channel="wa", account="1", contact=contact) for contact in (one, other))
    assert (first == second) is same


@pytest.mark.parametrize("key", ["", "wa", "wa:1", "wa:1:2:3"])
def test_what_has_no_three_parts_is_no_key(key: str) -> None:
    """ValueError says so."""
    with pytest.raises(ValueError, match="values to unpack"):
        split_conversation_key(key)


def test_event_ids_keep_their_parts_apart() -> None:
    """The same parts give the same 32 digits; where one part ends counts."""
    assert event_id("a", "b") == event_id("a", "b")
    assert len({event_id("a", "b"), event_id("ab"), event_id("ab", ""), event_id("", "ab"), event_id("b", "a")}) == 5
    assert re.fullmatch(r"[0-9a-f]{32}", event_id("\ud800", "שלום"))


def test_send_ids_come_from_cause_and_step() -> None:
    """A second run makes the same id; a fallback is another send than the reply."""
    reply = send_id(conversation="wa:1:2", cause="c", step="reply")
    assert reply == send_id(conversation="wa:1:2", cause="c", step="reply")
    assert (
        len({reply, send_id(conversation="wa:1:2", cause="c", step="fallback"), send_id(conversation="wa:1:3", cause="c", step="reply")})
        == 3
    )


@given(_ANY_TEXT)
def test_callback_data_bring_back_the_send_and_its_partition(contact: str) -> None:
    """What a send carries says its id and where its key is placed, in far less than the 512 characters there are."""
    key = conversation_key(channel="wa", account="1", contact=contact)
    send = send_id(conversation=key, cause="c", step="reply")
    data = callback_data(send=send, conversation=key)
    assert read_callback_data(data) == (send, key_hash(key.encode()))
    assert len(data) < 64


@given(_ANY_TEXT)
def test_foreign_callback_data_are_not_ours(data: str) -> None:
    """Other software's data are nothing to us."""
    assert read_callback_data(data) is None


@pytest.mark.parametrize(
    "data",
    ["o1." + "a" * 32 + ".0000000g", "o1." + "A" * 32 + ".00000000", "o2." + "a" * 32 + ".00000000", "o1." + "a" * 32 + ".00000000\n"],
)
def test_callback_data_nearly_ours_are_not_ours(data: str) -> None:
    """One character too many or wrong, and they count for nothing."""
    assert read_callback_data(data) is None


@pytest.mark.parametrize(("key", "account"), [("wa:1:2", "1"), ("wa:-:-", ""), ("wa:1", ""), ("wa:1:2:3", ""), ("", "")])
def test_whose_a_key_is(key: str, account: str) -> None:
    """Nobody's, and what is no such key, belong to no account."""
    assert account_of_key(key) == account
