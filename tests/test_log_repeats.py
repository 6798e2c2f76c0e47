"""infra.log_repeats: a library that says the same all the time is heard now and then, everything else always."""

import logging

from infra.log_repeats import AGAIN_S, Repeats


def record(name: str, text: str, *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, text, args, None)


def test_the_same_is_said_once_in_a_while_with_how_often_it_was_not() -> None:
    now = 0.0
    repeats = Repeats(("aiokafka",), now=lambda: now)
    said = [repeats.filter(record("aiokafka.conn", "cannot connect to node %s", number)) for number in range(40)]
    assert said == [True] + [False] * 39
    now = AGAIN_S
    again = record("aiokafka.conn", "cannot connect to node %s", 7)
    assert repeats.filter(again)
    assert again.getMessage() == "cannot connect to node 7 (and 39 more like it)"
    now = 3 * AGAIN_S
    later = record("aiokafka.conn", "cannot connect to node %s", 8)
    assert repeats.filter(later)
    assert later.getMessage() == "cannot connect to node 8"


def test_what_differs_is_said() -> None:
    """Another text, level or logger is another thing; our own lines are never held back; a percent sign in a text does no harm."""
    repeats = Repeats(("aiokafka",))
    assert repeats.filter(record("aiokafka.conn", "one"))
    assert repeats.filter(record("aiokafka.conn", "two"))
    assert repeats.filter(record("aiokafka.conn", "one", level=logging.WARNING))
    assert repeats.filter(record("aiokafka.client", "one"))
    assert all(repeats.filter(record("sinks.sender", "100 % the same")) for _ in range(3))
    assert all(repeats.filter(record("aiokafkaesque", "the same")) for _ in range(3))


def test_it_remembers_no_more_than_it_may() -> None:
    repeats = Repeats(("aiokafka",))
    assert all(repeats.filter(record("aiokafka", "text " + "x" * (number % 110) + chr(0x3B1 + number // 110))) for number in range(5_000))
    assert len(repeats._said) <= 512
