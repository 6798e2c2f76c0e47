"""The one stream: what becomes of each kind of line."""

import io

import pytest

from infra.supervisor.printing import Printer, printable


def _shown(line: bytes, *, colour: bool = False) -> str:
    stream = io.StringIO()
    Printer(stream, colour=colour).child_line("sinks", line)
    return stream.getvalue()


def _after_the_clock(text: str) -> str:
    clock, _, rest = text.partition(" ")
    assert len(clock) == 8
    assert clock[2] == clock[5] == ":"
    return rest


def test_record_becomes_a_sentence_with_values() -> None:
    """A JSON line is shown as role, level, message and its other values, quoted where they hold spaces."""
    own = b'"event": "stored", "level": "info", "role": "x", "timestamp": "2026-11-02T10:00:00Z"'
    line = b"{" + own + b', "rows": 3, "why": "it was due", "to": "a:1"}'
    assert _after_the_clock(_shown(line)) == 'sinks     info    stored rows=3 why="it was due" to=a:1\n'


@pytest.mark.parametrize("line", [b"Traceback (most recent call last):", b'{"half":', b'{"no": "event"}', b"[1]", b'{"event"'])
def test_other_lines_go_through(line: bytes) -> None:
    """What is no record of ours is shown as it is, behind the name of who said it."""
    assert _after_the_clock(_shown(line)).split(maxsplit=1)[1] == line.decode() + "\n"
    assert "sinks" in _shown(line)


def test_empty_lines_are_dropped() -> None:
    """An empty line says nothing."""
    assert _shown(b"") == _shown(b"  ") == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\rb", r"a\rb"), ("a\u202eb", r"a\u202eb"), ("a\x9bb", r"a\x9bb"), ("é 漢 🙂", "é 漢 🙂")],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    """Control characters, also those that turn the direction of text, reach no terminal; letters of all scripts do."""
    assert printable(text) == shown
    assert shown in _shown(text.encode())


def test_values_and_keys_are_escaped_too() -> None:
    """A stranger's text inside a record is as harmless as outside."""
    assert "\x1b" not in _shown(b'{"event": "x\\u001b[1m", "level": "info", "k\\u001b": "\\u001b[2J", "list": ["\\u001b"]}')


def test_exception_follows_indented() -> None:
    """The traceback in a record comes below its line, every line of it indented."""
    shown = _shown(b'{"event": "failed", "level": "error", "exception": "Traceback\\n  File\\nValueError: x"}')
    assert shown.splitlines()[1:] == ["    Traceback", "      File", "    ValueError: x"]


def test_colour_only_where_asked() -> None:
    """Escapes of our own are there for a terminal alone."""
    line = b'{"event": "failed", "level": "error"}'
    assert "\x1b[31m" in _shown(line, colour=True)
    assert "\x1b" not in _shown(line)


def test_a_broken_stream_is_told_once() -> None:
    """When the reader has gone away, somebody is told, once, and later lines are dropped."""

    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    told: list[int] = []
    printer = Printer(Gone(), colour=False, on_broken=lambda: told.append(1))
    printer.say("info", "one")
    printer.say("info", "two")
    assert told == [1]
