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


class _Stream:
    """A printer whose time stands still until it is told."""

    def __init__(self) -> None:
        self.now_s, self._text = 100.0, io.StringIO()
        self._printer = Printer(self._text, colour=False, clock=lambda: self.now_s)

    def shown(self, *lines: bytes) -> list[str]:
        """Print lines of a child and return what came out for them, without clock and role."""
        self._text.truncate(0)
        self._text.seek(0)
        for line in lines:
            self._printer.child_line("sinks", line)
        return [line.split(maxsplit=2)[2] for line in self._text.getvalue().splitlines()]


def test_complaints_that_repeat_are_shown_once_in_five_seconds() -> None:
    """A line that differs by its numbers alone is dropped for five seconds, and the next one says how many were."""
    stream = _Stream()
    assert stream.shown(*(b"connect to 127.0.0.1:%d failed" % port for port in range(100))) == ["connect to 127.0.0.1:0 failed"]
    stream.now_s += 4.9
    assert stream.shown(b"connect to 127.0.0.1:1 failed") == []
    stream.now_s += 0.2
    assert stream.shown(b"connect to 127.0.0.1:1 failed") == ["connect to 127.0.0.1:1 failed (and 100 more like it)"]


def test_complaints_with_values_are_all_shown() -> None:
    """Errors that each speak of another message are not the same, even within a moment."""
    lines = [b'{"event": "not sent", "level": "error", "message": "%d"}' % number for number in range(10)]
    assert len(_Stream().shown(*lines)) == 10
    assert len(_Stream().shown(*lines, *lines)) == 10


def test_information_is_never_dropped() -> None:
    """One line per unit of work stays one line per unit of work."""
    assert len(_Stream().shown(*[b'{"event": "stored", "level": "info"}'] * 10)) == 10


def test_what_is_remembered_of_repeats_is_bounded() -> None:
    """A million different complaints take no more memory than the last few hundred."""
    stream = _Stream()
    stream.shown(*(b"cannot %s" % bytes([97 + number % 26]) * (1 + number // 26) for number in range(2000)))
    assert len(stream._printer._repeats._seen) <= 500
