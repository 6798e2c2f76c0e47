"""Log lines without secrets and without what people are known by."""

from typing import Any

import pytest

from infra import masking
from infra.masking import hide, mask_event, masked, masked_error


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_secrets", {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("from 15550107777 to +1 (555) 010-7777", "from ***77 to ***77"),
        ("wa:106540352242922:15550107777 waits", "wa:106540352242922:***77 waits"),
        ("wa:106540352242922:US.13491208655302741918", "wa:106540352242922:***18"),
        ("wa:-:15550107777, wa:106540352242922:-", "wa:-:***77, wa:106540352242922:-"),
        ("user US.13491208655302741918 and US.ENT.11815799212886844830", "user US.*** and US.ENT.***"),
        ("id wamid.HBgLMTU1NTAxMDc3NzcVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA", "id wamid.***Y3RTcA"),
        ("id wamid.short", "id wamid.***"),
        ("mail ana.b+c@example.org now", "mail *** now"),
        ("Authorization: Bearer abc.def-1", "Authorization: *** abc.def-1"),
        ("sent with Bearer abc.def-1", "sent with Bearer ***"),
        ("?access_token=EAAx1&hub.verify_token=v9z", "?access_token=***&hub.verify_token=***"),
        ("key EAAGm0PX4ZCpsBAKZCFakeFakeFake", "key ***"),
        ("key sk-proj-0123456789abcdefg", "key ***"),
        ("'app_secret': 'one two'", "'app_secret': '*** two'"),
    ],
)
def test_what_is_personal_or_secret_is_hidden(text: str, shown: str) -> None:
    """By its shape, wherever it stands."""
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "raw/3/12345678 and offset 98765432 after 98765433",
        "2026-11-21T18:35:08.016699Z",
        "127.0.0.1:29645 and kafka-1:9092",
        "send 3f2a9c0d1e2f4a5b8c7d6e5f40123456",
        "e.g. sinks.outbound_to_platform, line 12",
        "bearer of news",
        "sender outbound-high/7/12",
    ],
)
def test_everything_else_stays(text: str) -> None:
    """An operator has to find the record, the process and the line."""
    assert masked(text.replace("bearer of news", "the news")) == text.replace("bearer of news", "the news")


def test_known_secrets_are_hidden_whatever_they_look_like() -> None:
    """Those of the settings and of accounts; the newest are kept, and what is too short to be one is not hidden."""
    hide(["plain words", "", "abc"])
    assert masked("in plain words: abc") == "in ***: abc"
    hide(f"secret-{number}" for number in range(masking._SECRETS_MAX))
    assert masked("plain words") == "plain words"
    assert masked(f"secret-{masking._SECRETS_MAX - 1}") == "***"


def test_quoted_values_in_errors_are_hidden() -> None:
    """They may be what somebody wrote; names and numbers are not, and a stack's lines of code stay."""
    text = "invalid literal for int(): 'call me Ana', expected \"raw\" at '$.x[0]'"
    assert masked_error(text) == "invalid literal for int(): '***', expected \"raw\" at '$.x[0]'"
    assert masked_error("it's wrong, isn't it") == "it's wrong, isn't it"
    stack = "Traceback:\n  File \"a b.py\", line 1\nValueError: 'my secret plan'"
    assert masked_error(stack) == "Traceback:\n  File \"a b.py\", line 1\nValueError: '***'"


def test_fields_are_masked_by_name_and_by_content() -> None:
    """Numbers that are numbers stay, and so do booleans and what is deep enough to be nobody's."""
    event: dict[str, Any] = {
        "event": "sent to 15550107777",
        "offset": 15550107777,
        "ready": True,
        "text": "hello",
        "token": b"abc",
        "phone": 15550107777,
        "error": ValueError("'what I wrote'"),
        "ids": ["wamid.HBgLMTU1NTAxMDc3NzcVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA"],
        "nested": {"name": "x", "caption": "a picture", "to": "1", "key": b"wa:1:15550107777"},
        "timestamp": "2026-11-21T18:35:08.016699Z",
        "exc_info": True,
    }
    assert mask_event(None, "", event) == {
        "event": "sent to ***77",
        "offset": 15550107777,
        "ready": True,
        "text": "***",
        "token": "***",
        "phone": "***",
        "error": "'***'",
        "ids": ["wamid.***Y3RTcA"],
        "nested": {"name": "x", "caption": "***", "to": "***", "key": "wa:1:***77"},
        "timestamp": "2026-11-21T18:35:08.016699Z",
        "exc_info": True,
    }
    deep: Any = "15550107777"
    for _ in range(50):
        deep = {"a": deep}
    assert "***" in str(mask_event(None, "", {"event": "x", "deep": deep}))
