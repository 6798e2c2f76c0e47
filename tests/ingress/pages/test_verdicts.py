"""What the overview says of the promises and the flow, from figures alone."""

from typing import Any

import pytest

from infra.cassandra.dead_letters import Group
from ingress.pages.counts import Counts
from ingress.pages.verdicts import (
    BAD,
    GOOD,
    UNKNOWN,
    WARN,
    Verdict,
    flow_of,
    headline_of,
    refused_of,
    verdicts_of_history,
    verdicts_of_log,
)

NONE = Counts([], more_letters=False, unknown_sends=0, more_sends=False)


def row(group: str, topic: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "group": group,
        "topic": topic,
        "state": "OK",
        "lag_messages": 0,
        "lag_seconds": 0.0,
        "in_per_second": 1.5,
        "retention_left_seconds": None,
        "lost_messages": 0,
    }
    return fields | changes


def letters(stage: str, number: int) -> Group:
    return Group(cause=f"cause {number}", stage=stage, open=number, redriven=1, first="", last="")


WELL = [row("streams", "raw"), row("sender", "outbound-high"), row("history", "sent")]


@pytest.mark.parametrize(
    ("changes", "states", "words"),
    [
        ({}, (GOOD, GOOD, GOOD), "Nothing waits"),
        ({"lag_messages": 1, "lag_seconds": 0.8}, (GOOD, GOOD, GOOD), "1 record waits, the oldest for 800 ms."),
        ({"lag_messages": 1200, "lag_seconds": 61.0}, (GOOD, WARN, GOOD), "1,200 records wait, the oldest for 1 min 1 s."),
        ({"lag_messages": 7, "lag_seconds": 2.0, "state": "STALL"}, (GOOD, BAD, GOOD), "streams is at STALL in raw."),
        ({"lag_messages": 7, "lag_seconds": None}, (GOOD, WARN, GOOD), "7 records wait."),
        ({"lost_messages": 3}, (BAD, GOOD, GOOD), "3 records were deleted by age"),
        ({"lag_messages": 1, "lag_seconds": 1.0, "retention_left_seconds": 7200.0}, (BAD, GOOD, GOOD), "deleted in 2 h 0 min"),
    ],
)
def test_what_the_log_says(changes: dict[str, Any], states: tuple[str, ...], words: str) -> None:
    """Prompt is under five seconds; who stands still is named, and what is lost is counted."""
    found = verdicts_of_log([row("streams", "raw", **changes), *WELL[1:]], "")
    assert tuple(each.state for each in found) == states
    assert any(words in each.sentence for each in found)


def test_several_that_stand_still_are_counted() -> None:
    """One is named, the others are said to be there."""
    rows = [row("sender", topic, state="STOP", lag_messages=1) for topic in ("ledger", "status")]
    assert "sender is at STOP in ledger, and 1 more." in verdicts_of_log(rows, "")[1].sentence


def test_what_is_not_known_is_not_said_to_be_well() -> None:
    """Neither while Kafka or Cassandra is away, nor before anybody has read anything."""
    assert {each.state for each in verdicts_of_log([], "Kafka does not answer")} == {UNKNOWN}
    assert {each.state for each in verdicts_of_log([], "")} == {UNKNOWN}
    found = verdicts_of_history(None, "Cassandra does not answer.")
    assert [each.state for each in found] == [UNKNOWN, UNKNOWN]
    assert found[0].sentence == "Not known just now: Cassandra does not answer."


def test_what_is_listed_for_somebody() -> None:
    """Failures and unknown sends are counted, with the way to them, and where the counting ended it says so."""
    assert [each.state for each in verdicts_of_history(NONE)] == [GOOD, GOOD]
    sends, failures = verdicts_of_history(Counts([letters("streams", 1)], more_letters=False, unknown_sends=50, more_sends=True))
    assert (sends.href, "50+ sends" in sends.sentence) == ("/sends", True)
    assert (failures.href, failures.sentence) == ("/dead-letters", "1 failure waits to be looked at and redriven.")
    found = verdicts_of_history(Counts([letters("streams", 20_000)], more_letters=True, unknown_sends=1, more_sends=False))
    assert "The answer to 1 send was lost" in found[0].sentence
    assert "20,000+ failures wait" in found[1].sentence


def test_the_worst_is_said_first() -> None:
    """In a few words."""

    def said(*states: str) -> str:
        return headline_of([Verdict(promise="", state=state, sentence="") for state in states])

    assert said(GOOD, GOOD) == "All is as promised"
    assert said(GOOD, UNKNOWN) == "Not all is known just now"
    assert said(UNKNOWN, WARN) == "Something needs a look"
    assert said(WARN, BAD, GOOD) == "A promise is not kept"


def test_edges_add_up_their_topics() -> None:
    """A rate that is not known is not zero, the worst state of a group is its edge's, and what went wrong leads to its list."""
    rows = [
        row("streams", "raw", in_per_second=None),
        row("sender", "outbound-high", lag_messages=2, lag_seconds=1.0),
        row("sender", "outbound-bulk", lag_messages=3, lag_seconds=9.0, state="STOP"),
        row("sender", "status", lag_messages=50, in_per_second=4.0),
        row("history", "status", in_per_second=3.9),
    ]
    counts = Counts([letters("streams", 2), letters("streams", 3)], more_letters=False, unknown_sends=50, more_sends=True)
    flow = flow_of(rows, counts, refused=7)
    assert (flow.raw.per_s, flow.raw.wrong, flow.raw.wrong_href, flow.raw.lag) == (None, "5 failures", "/dead-letters", 0)
    assert (flow.outbound.per_s, flow.outbound.lag, flow.outbound.lag_s, flow.outbound.state) == (3.0, 5, 9.0, "STOP")
    assert flow.outbound.is_bad
    assert (flow.webhooks.per_s, flow.webhooks.wrong) == (4.0, "7 not stored")
    assert (flow.sends.per_s, flow.sends.wrong, flow.sends.wrong_href) == (None, "50+ unknown", "/sends")
    assert (flow.status.lag, flow.history.per_s) == (50, 3.9)
    assert (flow.ledger.lag, flow.dead_letters.per_s, flow.ledger.is_bad) == (None, None, False)
    assert flow_of([], None, refused=0).sends.wrong == ""


def test_only_what_was_not_stored_counts_as_refused() -> None:
    """A bad signature is nothing that the platform sends again."""
    assert refused_of({"200": 1000, "401": 5, "503": 2, "500": 1}) == 3
