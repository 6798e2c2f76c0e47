"""What the scenario of the pages makes of what it saw."""

import pytest

from infra.bench.browser import Told
from infra.bench.figures import Figure
from infra.bench.open_pages import numbers_in, passed_at, shown_at
from infra.bench.scenarios.pages import Found, Pair, figures


def entry(number: int, *, answered: bool = False) -> str:
    """Return an entry of the list as the page has it."""
    return f"<b><bdi>+15550000000</bdi></b> <time>3 s ago</time> <bdi>{'echo: ' if answered else ''}{number} hello 9 times</bdi>"


def named(found: list[Figure], name: str) -> Figure:
    """Return the figure of a name."""
    return next(each for each in found if each.name == name)


def test_numbers_of_what_a_page_shows() -> None:
    """Of messages and of answers to them; no other number is one."""
    assert numbers_in(entry(17) + entry(18, answered=True)) == [17, 18]
    assert numbers_in('<div class="words" dir="auto">19 hello</div> <time>4 s ago</time>') == [19]


def test_a_thread_shows_each_message() -> None:
    """The first time counts; what was shown of others is left out, and so is what was never shown."""
    told = [Told(10.0, entry(1)), Told(11.0, entry(3) + entry(4)), Told(12.0, entry(3, answered=True))]
    assert shown_at(told, {3: 10.5, 5: 11.5}) == {3: 11.0}


def test_a_list_shows_a_message_or_a_later_one() -> None:
    """What is told later and is older changes nothing."""
    told = [Told(10.0, entry(1)), Told(11.0, entry(5)), Told(12.0, entry(2)), Told(13.0, entry(6))]
    assert passed_at(told, {1: 9.0, 2: 10.1, 5: 10.2, 6: 12.0, 7: 12.5}) == {1: 10.0, 2: 11.0, 5: 11.0, 6: 13.0}
    assert passed_at([], {1: 9.0}) == {}


def test_the_cost_of_looking_is_the_difference_next_door() -> None:
    """The median over pairs, in percent of a core, whole and by process."""
    pairs = [
        Pair(looked={"ingress": 0.32, "kafka": 0.21}, alone={"ingress": 0.30, "kafka": 0.20}),
        Pair(looked={"ingress": 0.42, "kafka": 0.31}, alone={"ingress": 0.38, "kafka": 0.30}),
        Pair(looked={"ingress": 0.32, "kafka": 0.99}, alone={"ingress": 0.30, "kafka": 0.20}),
    ]
    found = figures(Found(pairs=pairs), rate=300)
    assert named(found, "metrics, lag watcher and an open overview").value == pytest.approx(5.0)
    assert named(found, "metrics, lag watcher and an open overview").verdict == "missed"
    assert named(found, "metrics, lag watcher and an open overview: ingress").value == pytest.approx(2.0)
    assert named(found, "ingress, left alone").value == pytest.approx(30.0)


def test_bounds() -> None:
    """The longest counts as well; under load a first byte is only told."""
    found = Found(
        first_bytes={"livez, which reads nothing": [0.3], "conversations": [0.1, 0.1, 0.3]},
        under_load={"conversations": [0.3]},
        live={"thread": [0.2, 0.4]},
        live_under_load={"thread": [0.4, 1.2]},
        never=1,
        reached=290.0,
    )
    verdicts = {each.name: each.verdict for each in figures(found, rate=300) if each.verdict}
    assert verdicts == {
        "conversations, first byte, p50": "kept",
        "conversations, first byte, longest": "missed",
        "open thread, an event, longest": "kept",
        "open thread, an event at 300 messages a second, longest": "missed",
        "load that was taken": "kept",
        "never shown": "missed",
        "metrics, lag watcher and an open overview": "unknown",
    }
