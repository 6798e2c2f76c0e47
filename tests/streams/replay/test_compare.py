"""Verdicts over pairs of outcomes, and the numbers they sum up to."""

import random
import sys

import pytest

from streams.replay.answers import NO_RECORD
from streams.replay.compare import Compared, Outcome, Verdict, chosen, judge
from streams.replay.store import Decided
from streams.replay.summary import Counting, Times

ANSWERED = Outcome(decision="answered", step="reply", text="yes")
OTHER = Outcome(decision="answered", step="reply", text="no", agent="other", took_ms=9)
FALLBACK = Outcome(decision="failed", reason="model-timeout", step="fallback", text="sorry")
STORED = Outcome(decision="stored", reason="late")
REFUSED = Outcome(decision="failed", reason="no-identity")
UNRECORDED = Outcome(decision="failed", reason=NO_RECORD, step="fallback", text="sorry")


@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        (ANSWERED, ANSWERED, "same"),
        (ANSWERED, Outcome(decision="answered", step="reply", text="yes", agent="other", took_ms=99, outcome="accepted"), "same"),
        (STORED, STORED, "same"),
        (FALLBACK, FALLBACK, "same"),
        (REFUSED, REFUSED, "same"),
        (ANSWERED, OTHER, "changed"),
        (ANSWERED, FALLBACK, "changed"),
        (FALLBACK, ANSWERED, "changed"),
        (FALLBACK, Outcome(decision="failed", reason="model-empty", step="fallback", text="sorry"), "changed"),
        (STORED, Outcome(decision="stored", reason="reaction"), "changed"),
        (STORED, REFUSED, "changed"),
        (ANSWERED, STORED, "missing"),
        (ANSWERED, None, "missing"),
        (STORED, None, "missing"),
        (ANSWERED, UNRECORDED, "missing"),
        (STORED, UNRECORDED, "missing"),
        (None, UNRECORDED, "missing"),
        (STORED, ANSWERED, "new"),
        (None, ANSWERED, "new"),
        (None, STORED, "new"),
    ],
)
def test_verdicts(was: Outcome | None, now: Outcome | None, verdict: str) -> None:
    """Each pair has one verdict, and what is missing or new says why."""
    found, why = judge(was, now)
    assert found == verdict
    assert bool(why) == (verdict in {"missing", "new"})


def decided(decision: str) -> Decided:
    return Decided(
        cause="c", conversation="wa:1:2", tenant="default", partition=0, offset=0, received_at=1, decided_at=2, decision=decision
    )


@pytest.mark.parametrize(
    ("decisions", "step", "expected"),
    [
        ([], "", None),
        (["answered"], "reply", "answered"),
        # Killed and decided again: of the sends the first counts, and with it its decision.
        (["failed", "answered"], "fallback", "failed"),
        (["answered", "failed"], "reply", "answered"),
        (["failed", "answered"], "redrive", "answered"),
        (["stored", "stored"], "", "stored"),
        # Of the first time only the send is in the log.
        (["answered"], "fallback", "failed"),
        (["failed"], "reply", "answered"),
    ],
)
def test_the_decision_that_belongs_to_the_send(decisions: list[str], step: str, expected: str | None) -> None:
    found = chosen([decided(each) for each in decisions], step)
    assert (found.decision if found is not None else None) == expected


def item(number: int, verdict: Verdict, was: Outcome | None, now: Outcome | None) -> Compared:
    return Compared(
        conversation=f"wa:1:{number}",
        tenant="t",
        cause="c",
        partition=0,
        offset=0,
        received_at=1,
        verdict=verdict,
        was=was,
        now=now,
    )


def test_the_sum() -> None:
    """Answers and what nobody answers are counted apart, a conversation with differences once, times and failures of the agent asked."""
    counting = Counting()
    slow = Outcome(decision="answered", step="reply", text="no", took_ms=1234, tokens_in=5, tokens_out=7)
    counted: list[tuple[int, Verdict, Outcome, Outcome | None]] = [
        (1, "same", ANSWERED, ANSWERED),
        (1, "changed", ANSWERED, slow),
        (1, "changed", ANSWERED, FALLBACK),
        (2, "same", STORED, STORED),
        (3, "missing", STORED, None),
    ]
    for number, verdict, was, now in counted:
        counting.add(item(number, verdict, was, now), is_asked=True)
    counting.elsewhere = 2
    found = counting.summary("id", unhandled=3)
    assert found.answers == {"same": 1, "changed": 2, "missing": 0, "new": 0}
    assert found.others == {"same": 1, "changed": 0, "missing": 1, "new": 0}
    assert (found.conversations, found.differing_conversations, found.compared, found.all_same) == (3, 2, 5, False)
    assert (found.tokens_in, found.tokens_out, found.now_p99_ms, found.failures) == (5, 7, 1230, {"model-timeout": 1})
    assert (found.elsewhere, found.unhandled) == (2, 3)
    empty = Counting().summary("id", unhandled=0)
    assert (empty.all_same, empty.compared, empty.was_p50_ms) == (True, 0, -1)


def test_percentiles_are_right_to_three_digits() -> None:
    """Whatever the times are, the percentile is within half a percent of the exact one, and little is kept of them."""
    seed = random.randrange(1 << 30)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    values = [int(10 ** chance.uniform(0, 6)) for _ in range(5_000)]
    times = Times()
    for value in values:
        times.add(value)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = sorted(values)[max(0, -(-int(share * 100) * len(values) // 100) - 1)]
        assert times.percentile(share) == pytest.approx(exact, rel=0.006)
    assert len(times._counts) < 5_000
