"""The request of a send: the caller's own message, the address as it was given, our callback data."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.channels.whatsapp.request import cut
from schemas.events.outbound import OutboundEvent
from schemas.ids import callback_data
from tests.schemas.channels.whatsapp.bodies import ACCOUNT, CHANNEL, UNHURRIED


def _outbound(message: Any, *, to: str = "+1 650", to_kind: str = "phone", account: str = ACCOUNT) -> OutboundEvent:
    return OutboundEvent(
        id="a" * 32,
        conversation=f"wa:{account}:1650",
        tenant="default",
        channel="whatsapp",
        account=account,
        to=to,
        to_kind=to_kind,
        priority="high",
        message=msgspec.Raw(json.dumps(message).encode()),
        cause="c",
        step="reply",
        created_at=1,
    )


def _body(outbound: OutboundEvent) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(CHANNEL.build_request(outbound).body)
    return decoded


_TEXT = {"type": "text", "text": {"body": "hello"}}


def test_request_of_a_text() -> None:
    """The message object stands in the platform's envelope with our callback data."""
    request = CHANNEL.build_request(_outbound(_TEXT))
    assert request.path == f"{ACCOUNT}/messages"
    assert json.loads(request.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+1 650",
        "type": "text",
        "text": {"body": "hello"},
        "biz_opaque_callback_data": callback_data(send="a" * 32, conversation=f"wa:{ACCOUNT}:1650"),
    }


def test_user_ids_and_groups_have_their_own_place() -> None:
    """A user id goes to `recipient`, a group is a recipient type."""
    user = _body(_outbound(_TEXT, to="US.1", to_kind="user"))
    assert (user["recipient"], user["recipient_type"], "to" in user) == ("US.1", "individual", False)
    group = _body(_outbound(_TEXT, to="G-1", to_kind="group"))
    assert (group["to"], group["recipient_type"]) == ("G-1", "group")


def test_what_we_write_counts_over_the_message() -> None:
    """A message cannot change its recipient or our callback data; all its other keys go along."""
    message = _TEXT | {
        "to": "2",
        "recipient": "US.2",
        "messaging_product": "x",
        "biz_opaque_callback_data": "x",
        "context": {"message_id": "m"},
    }
    body = _body(_outbound(message))
    assert (body["to"], body["messaging_product"], "recipient" in body) == ("+1 650", "whatsapp", False)
    assert body["biz_opaque_callback_data"].startswith("o1.")
    assert body["context"] == {"message_id": "m"}


def test_account_stays_in_its_place_of_the_path() -> None:
    """An account cannot lead to another path."""
    assert CHANNEL.build_request(_outbound(_TEXT, account="../1")).path == "..%2F1/messages"


@pytest.mark.parametrize("message", [[], "text", None, 5])
def test_message_that_is_no_object(message: Any) -> None:
    """It cannot be sent, in a sentence."""
    with pytest.raises(ValueError, match="must be a JSON object"):
        CHANNEL.build_request(_outbound(message))


def test_long_text_is_cut() -> None:
    """The platform refuses more than 4,096 characters: what is longer ends with an ellipsis after a sentence or word."""
    sentence = "This is a sentence. "
    body = _body(_outbound({"type": "text", "text": {"body": sentence * 300, "preview_url": True}}))["text"]
    assert len(body["body"]) <= 4_096
    assert body["body"].endswith("sentence.…")
    assert body["preview_url"] is True
    assert _body(_outbound({"type": "text", "text": {"body": "a" * 4_096}}))["text"]["body"] == "a" * 4_096


@pytest.mark.parametrize("text", [None, "odd", {"body": 5}, {}, []])
def test_odd_text_goes_as_it_is(text: Any) -> None:
    """Whether it is any good is the platform's to say."""
    assert _body(_outbound({"type": "text", "text": text}))["text"] == text


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("a" * 80 + "\n\n" + "b" * 40, "a…"),
        ("a" * 80 + ". " + "b" * 40, "a.…"),
        ("a" * 80 + " " + "b" * 40, "a…"),
        ("a" * 200, "a…"),
        ("a" * 98 + "e\u0301\u0301\u0301" + "b" * 9, "a…"),
        ("a" * 96 + "👩\u200d👩\u200d👧" + "b" * 9, "a…"),
        ("a" * 98 + "👍🏽" + "b" * 9, "a…"),
    ],
)
def test_cut_ends_where_a_text_can_end(words: str, end: str) -> None:
    """After a paragraph, a sentence or a word where one ends near, and never inside of an accented letter or an emoji."""
    assert cut(words, 100).endswith(end)


@UNHURRIED
@given(st.text(st.characters(), max_size=300), st.integers(1, 120))
def test_cut_never_exceeds_the_limit(words: str, length: int) -> None:
    """Any text fits afterwards and begins as it did."""
    shorter = cut(words, length)
    assert len(shorter) <= length
    assert shorter == words or words.startswith(shorter[:-1])
