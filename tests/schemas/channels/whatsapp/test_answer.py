"""The platform's answers: the catalogue of codes, and every other way in which a send can be answered."""

import json
from typing import Any

import pytest

from schemas.channels.base import Answer, Outcome, Pause
from schemas.channels.whatsapp.errors import ERRORS, known_error
from tests.schemas.channels.whatsapp.bodies import CHANNEL

# Labelled by hand from the platform's documentation: status it is documented with, code, outcome, what pauses, whether it is no try.
_LABELLED = [
    (401, 0, Outcome.RETRY, Pause.NUMBER, True),
    (500, 1, Outcome.RETRY, Pause.NONE, False),
    (503, 2, Outcome.RETRY, Pause.NONE, False),
    (500, 3, Outcome.RETRY, Pause.NUMBER, True),
    (400, 4, Outcome.RETRY, Pause.APP, True),
    (403, 10, Outcome.RETRY, Pause.NUMBER, True),
    (400, 33, Outcome.REJECTED, Pause.NONE, False),
    (400, 100, Outcome.REJECTED, Pause.NONE, False),
    (401, 190, Outcome.RETRY, Pause.NUMBER, True),
    (403, 200, Outcome.RETRY, Pause.NUMBER, True),
    (403, 299, Outcome.RETRY, Pause.NUMBER, True),
    (403, 368, Outcome.RETRY, Pause.NUMBER, True),
    (400, 613, Outcome.RETRY, Pause.APP, True),
    (400, 80007, Outcome.RETRY, Pause.APP, True),
    (400, 130429, Outcome.RETRY, Pause.NUMBER, True),
    (400, 130472, Outcome.REJECTED, Pause.NONE, False),
    (403, 130497, Outcome.REJECTED, Pause.NONE, False),
    (500, 131000, Outcome.RETRY, Pause.NONE, False),
    (403, 131005, Outcome.RETRY, Pause.NUMBER, True),
    (400, 131008, Outcome.REJECTED, Pause.NONE, False),
    (400, 131009, Outcome.REJECTED, Pause.NONE, False),
    (500, 131016, Outcome.RETRY, Pause.NONE, False),
    (400, 131021, Outcome.REJECTED, Pause.NONE, False),
    (400, 131026, Outcome.REJECTED, Pause.NONE, False),
    (400, 131030, Outcome.REJECTED, Pause.NONE, False),
    (403, 131031, Outcome.RETRY, Pause.NUMBER, True),
    (400, 131037, Outcome.REJECTED, Pause.NONE, False),
    (400, 131042, Outcome.REJECTED, Pause.NONE, False),
    (500, 131045, Outcome.REJECTED, Pause.NONE, False),
    (400, 131047, Outcome.REJECTED, Pause.NONE, False),
    (400, 131048, Outcome.RETRY, Pause.NUMBER, True),
    (400, 131049, Outcome.REJECTED, Pause.NONE, False),
    (400, 131050, Outcome.REJECTED, Pause.NONE, False),
    (400, 131051, Outcome.REJECTED, Pause.NONE, False),
    (400, 131052, Outcome.REJECTED, Pause.NONE, False),
    (400, 131053, Outcome.RETRY, Pause.NONE, False),
    (400, 131056, Outcome.RETRY, Pause.PAIR, True),
    (500, 131057, Outcome.RETRY, Pause.NUMBER, True),
    (400, 131062, Outcome.REJECTED, Pause.NONE, False),
    (400, 131064, Outcome.RETRY, Pause.NONE, False),
    (400, 132000, Outcome.REJECTED, Pause.NONE, False),
    (400, 132015, Outcome.REJECTED, Pause.NONE, False),
    (400, 132016, Outcome.REJECTED, Pause.NONE, False),
    (400, 132999, Outcome.REJECTED, Pause.NONE, False),
    (503, 133004, Outcome.RETRY, Pause.NONE, False),
    (400, 133010, Outcome.REJECTED, Pause.NONE, False),
    (400, 133016, Outcome.RETRY, Pause.NUMBER, True),
    (400, 135000, Outcome.REJECTED, Pause.NONE, False),
    (400, 137000, Outcome.REJECTED, Pause.NONE, False),
]


def _answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CHANNEL.read_answer(status, raw, {name.replace("_", "-"): value for name, value in headers.items()})


def _error(code: object, **members: object) -> dict[str, object]:
    return {"error": {"message": f"(#{code}) words", "type": "OAuthException", "code": code, "fbtrace_id": "A1", **members}}


@pytest.mark.parametrize(("status", "code", "outcome", "pause", "throttled"), _LABELLED)
def test_every_code_has_its_outcome(status: int, code: int, outcome: Outcome, pause: Pause, throttled: bool) -> None:
    """The code decides, as a number or as text; only throttling pauses others, and whatever pauses waits for a while."""
    for given in (code, str(code)):
        answer = _answer(status, _error(given))
        assert (answer.outcome, answer.pause, answer.throttled, answer.error_code) == (outcome, pause, throttled, code)
        assert (pause is not Pause.NONE) == throttled
        assert answer.retry_after_s > 0 or not throttled


def test_catalogue_is_sound() -> None:
    """Every code of the catalogue has a meaning, and what pauses anything is never counted as a try."""
    for code, error in ERRORS.items():
        assert known_error(code) is error
        assert error.meaning
        assert error.outcome in (Outcome.RETRY, Outcome.REJECTED)
        assert error.throttled == (error.pause is not Pause.NONE)
        assert not error.throttled or (error.outcome is Outcome.RETRY and error.wait_s > 0)
    assert known_error(999_999) is None


def test_accepted_with_its_id() -> None:
    """200 with an id is taken, and tells how the platform calls the recipient."""
    answer = _answer(200, {"messaging_product": "whatsapp", "contacts": [{"input": "+1", "wa_id": "1"}], "messages": [{"id": "wamid.1"}]})
    assert answer == Answer(outcome=Outcome.ACCEPTED, platform_id="wamid.1", recipient="1")
    assert _answer(201, {"contacts": [{"input": "US.1", "user_id": "US.1"}], "messages": [None, {"id": "wamid.1"}]}).recipient == "US.1"
    assert _answer(200, {"contacts": None, "messages": [{"id": "wamid.1"}]}).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    "body",
    [b"", b"OK", b"{", {}, [], {"messages": []}, {"messages": [None]}, {"messages": [{"id": ""}]}, {"success": True}, {"error": "odd"}],
)
def test_success_without_an_id_is_unknown(body: Any) -> None:
    """It may have been sent: nobody can say."""
    assert _answer(200, body).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "members", "outcome", "throttled"),
    [
        (400, {}, Outcome.REJECTED, False),
        (404, {}, Outcome.REJECTED, False),
        (400, {"is_transient": True}, Outcome.RETRY, False),
        (500, {}, Outcome.RETRY, False),
        (503, {}, Outcome.RETRY, False),
        (429, {}, Outcome.RETRY, True),
        (200, {}, Outcome.REJECTED, False),
    ],
)
def test_code_that_nobody_knows(status: int, members: dict[str, object], outcome: Outcome, throttled: bool) -> None:
    """An error body is the platform's word that it took nothing; whether it may pass is in the status then."""
    answer = _answer(status, _error(987_654, **members))
    assert (answer.outcome, answer.throttled, answer.error_code) == (outcome, throttled, 987_654)


def test_error_body_without_a_code_is_the_platforms_by_its_trace() -> None:
    """A trace id is only the platform's; any other object called `error` may be a proxy's."""
    assert _answer(500, {"error": {"message": "x", "fbtrace_id": "A"}}).outcome is Outcome.RETRY
    assert _answer(500, {"error": {"message": "x"}}).outcome is Outcome.UNKNOWN
    assert _answer(502, {"error": "Bad Gateway"}).outcome is Outcome.UNKNOWN


def test_too_many_requests_are_no_tries() -> None:
    """429 throttles, whoever says it; a message that is no good is rejected all the same."""
    for body in (b"", b"<html>", _error(131000), _error(4), _error(987_654)):
        answer = _answer(429, body)
        assert (answer.outcome, answer.throttled, answer.pause) == (Outcome.RETRY, True, Pause.APP)
    assert _answer(429, _error(131056)).pause is Pause.PAIR
    assert _answer(429, _error(131047)).outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    ("status", "outcome", "throttled"),
    [
        (0, Outcome.UNKNOWN, False),
        (100, Outcome.UNKNOWN, False),
        (301, Outcome.RETRY, True),
        (302, Outcome.RETRY, True),
        (303, Outcome.UNKNOWN, False),
        (308, Outcome.RETRY, True),
        (400, Outcome.RETRY, False),
        (401, Outcome.RETRY, True),
        (403, Outcome.RETRY, True),
        (404, Outcome.RETRY, False),
        (407, Outcome.RETRY, True),
        (408, Outcome.RETRY, False),
        (413, Outcome.REJECTED, False),
        (425, Outcome.RETRY, False),
        (429, Outcome.RETRY, True),
        (499, Outcome.RETRY, False),
        (500, Outcome.UNKNOWN, False),
        (502, Outcome.UNKNOWN, False),
        (503, Outcome.UNKNOWN, False),
        (504, Outcome.UNKNOWN, False),
        (599, Outcome.UNKNOWN, False),
        (999, Outcome.UNKNOWN, False),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"\xff\xfe", b'{"error":', b"[]"])
def test_answers_without_the_platforms_word(status: int, outcome: Outcome, throttled: bool, body: bytes) -> None:
    """Behind a proxy's page or a cut-off body: retried only where nothing can have been taken."""
    answer = _answer(status, body)
    assert (answer.outcome, answer.throttled) == (outcome, throttled)
    assert str(status) in answer.error


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 60.0),
        ({"Retry_After": "7"}, 7.0),
        ({"retry_after": " 7 "}, 7.0),
        ({"Retry_After": "-7"}, 60.0),
        ({"Retry_After": "9999999"}, 3_600.0),
        ({"Retry_After": "9" * 5_000}, 60.0),
        ({"Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60.0),
        ({"X_Business_Use_Case_Usage": '{"1":[{"type":"whatsapp","estimated_time_to_regain_access":3}]}'}, 180.0),
        (
            {"X_Business_Use_Case_Usage": '{"1":[{"estimated_time_to_regain_access":"4"},5],"2":[{}],"3":0}'},
            240.0,
        ),
        ({"X_Business_Use_Case_Usage": '{"1":[{"estimated_time_to_regain_access":10000}]}', "Retry_After": "5"}, 3_600.0),
        ({"X_Business_Use_Case_Usage": '{"1":[{"estimated_time_to_regain_access":0}]}'}, 60.0),
        ({"X_Business_Use_Case_Usage": "{bad"}, 60.0),
        ({"X_Business_Use_Case_Usage": "[]"}, 60.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait_s: float) -> None:
    """The platform's own word counts, minutes of regaining access too, up to an hour; else ours does."""
    assert _answer(400, _error(80007), **headers).retry_after_s == wait_s


def test_rejected_does_not_wait() -> None:
    """There is nothing to wait for."""
    assert _answer(400, _error(131047), Retry_After="7").retry_after_s == 0


def test_words_of_an_error() -> None:
    """Message and details, these as an object or plain text, bounded."""
    assert _answer(400, _error(100, error_data={"details": "because"})).error == "(#100) words: because"
    assert _answer(400, _error(100, error_data="because")).error == "(#100) words: because"
    assert len(_answer(400, _error(100, message="x" * 10_000)).error) == 500
    assert _answer(400, {"error": {"code": 100}}).error == "parameter missing, misspelled or not supported"
    assert _answer(502, b"<html>" + b"x" * 10_000).error.startswith("HTTP 502, it may have been sent: <html>")
