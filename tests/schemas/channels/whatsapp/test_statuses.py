"""Statuses: of a group's participants too, with our own send, with errors in all their shapes, and never held up by a bad one."""

from typing import Any

import pytest

from schemas.channels.base import StatusUpdate
from schemas.ids import callback_data
from tests.schemas.channels.whatsapp.bodies import CHANNEL, RECEIVED_AT_MS, body, part_of, statuses, stored, value

_USER_ID = "US.13491208655302741918"


def _status(**members: Any) -> StatusUpdate:
    usual = {"id": "wamid.1", "status": "delivered", "timestamp": "1699999999", "recipient_id": "16505550001"}
    (status,) = statuses(body(value(statuses=[usual | members])))
    return status


def test_status_says_what_became_of_a_message() -> None:
    """Which message, what, when, for whom."""
    status = _status()
    assert (status.platform_id, status.status, status.at_ms, status.recipient) == ("wamid.1", "delivered", 1_699_999_999_000, "16505550001")
    assert (status.participant, status.send, status.error_code, status.error) == ("", "", 0, "")


def test_status_names_our_send() -> None:
    """Callback data of ours carry the send's id; others carry nothing for us."""
    assert _status(biz_opaque_callback_data=callback_data(send="a" * 32, conversation="wa:1:2")).send == "a" * 32
    assert _status(biz_opaque_callback_data="some data").send == ""
    assert _status(biz_opaque_callback_data=7).send == ""


def test_status_in_a_group_names_the_participant() -> None:
    """One message has a status for each participant: the user id where there is one, else the phone number."""
    (status,) = statuses(stored("status-read-group-bsuid__david-lev-pywa__1"))
    assert (status.recipient, status.participant) == ("fowefinoewcnw", "US.123456")
    assert _status(recipient_type="group", recipient_participant_id="16505550002").participant == "16505550002"


def test_status_of_a_person_without_a_number() -> None:
    """Where the number is left out or empty, the user id is the recipient."""
    assert _status(recipient_id="", recipient_user_id=_USER_ID).recipient == _USER_ID


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "played", "failed", "deleted", "warning", "something new"])
def test_every_word_is_kept(word: str) -> None:
    """Statuses nobody knows are kept as they are."""
    assert _status(status=word).status == word


@pytest.mark.parametrize(
    ("errors", "code", "words"),
    [
        ([{"code": 131047, "title": "Re-engagement", "error_data": {"details": "24 hours"}}], 131047, "Re-engagement: 24 hours"),
        ([{"code": "131047", "title": "Re-engagement"}], 131047, "Re-engagement"),
        ([{"code": 1, "message": "words", "error_data": "plain details"}], 1, "words: plain details"),
        ([{"code": 1, "title": "same", "error_data": {"details": "same"}}], 1, "same"),
        ([{"code": "none", "details": "only details"}], 0, "only details"),
        ([{"code": 10**30}], 0, ""),
        ([5, {"code": 7}], 7, ""),
        ([], 0, ""),
        ({"code": 5}, 0, ""),
    ],
)
def test_errors_in_all_their_shapes(errors: object, code: int, words: str) -> None:
    """Codes come as numbers or text, details as an object or plain text, or there is nothing."""
    status = _status(status="failed", errors=errors)
    assert (status.error_code, status.error) == (code, words)


def test_a_bad_status_does_not_hold_up_its_siblings() -> None:
    """What cannot be read is an update that says nothing, between the others."""
    part = part_of("status", b'{"id":"a","status":"sent"}', b"5", b'"\\ud800"', b"{}", b'{"id":"b","status":"read","timestamp":"soon"}')
    found = list(CHANNEL.parse_statuses(part))
    assert [(status.platform_id, status.status) for status in found] == [("a", "sent"), *[("", "unknown")] * 3, ("b", "read")]
    assert found[4].at_ms == RECEIVED_AT_MS
    assert list(CHANNEL.parse(part)) == []


def test_statuses_keep_their_order() -> None:
    """They come as the body has them, also where that is backwards: the ladder is for the reader."""
    assert [status.status for status in statuses(stored("batch-multi-status-reversed__composed__1"))] == ["read", "delivered", "sent"]
