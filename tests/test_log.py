"""The form of log lines: JSON or pretty, ours and the libraries' alike, masked in each."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from infra.log import configure_logging
from infra.settings import Settings


class Stream(io.StringIO):
    """Standard error, as a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def _break(text: str) -> None:
    raise ValueError(f"no such word: {text!r} 15550107777")


@pytest.fixture
def _handlers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _logged(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(Settings(whatsapp_token=SecretStr("not-to-be-seen"), _env_file=None), role="streams")
    log = structlog.get_logger("test")
    log.info("for 15550107777", text="what she wrote", offset=15550107777, words="\x1b[2J not-to-be-seen")
    logging.getLogger("library").warning("call of %s failed: %r", "15550107777", "what she wrote")
    log.debug("too quiet")
    try:
        _break("what she wrote")
    except ValueError:
        log.exception("it broke")
        logging.getLogger("library").exception("it broke, too")
    return stream.getvalue()


@pytest.mark.usefixtures("_handlers_as_before")
def test_json_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object a line, with its role; nothing personal in any, in a stack neither."""
    said = _logged(monkeypatch, terminal=False)
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["event"] for line in lines] == ["for ***77", "call of ***77 failed: '***'", "it broke", "it broke, too"]
    assert lines[0] | {"timestamp": ""} == {
        "event": "for ***77",
        "text": "***",
        "offset": 15550107777,
        "words": "\x1b[2J ***",
        "level": "info",
        "role": "streams",
        "timestamp": "",
    }
    assert all(line["exception"].endswith("ValueError: no such word: '***' ***77") for line in lines[2:])


@pytest.mark.usefixtures("_handlers_as_before")
def test_sentences_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masked all the same, and no character of a stranger moves the cursor."""
    said = _logged(monkeypatch, terminal=True)
    assert "it broke" in said
    assert "\x1b[2J" not in said
    for needle in ("what she wrote 1555", "ValueError: no such word: 'what", "15550107777 failed", "not-to-be-seen"):
        assert needle not in said


def test_every_secret_of_the_settings_is_known() -> None:
    """Whole, and each of several: a log line may hold either."""
    settings = Settings(whatsapp_app_secret=SecretStr("old-one, new-one"), ai_key=SecretStr("model"), _env_file=None)
    assert sorted(settings.secret_values()) == ["model", "new-one", "old-one", "old-one, new-one"]
