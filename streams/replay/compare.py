"""What was against what would be, item by item: pure functions."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from streams.decisions import FALLBACK_STEP
from streams.replay.answers import FAILED, NO_RECORD
from streams.replay.store import Answered, Decided, Send, Sent

_ANSWERED = "answered"

Verdict = Literal["same", "changed", "missing", "new"]
VERDICTS: tuple[Verdict, ...] = ("same", "changed", "missing", "new")


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One side of the comparison: a decision, and what it answered (`text` is empty where nothing was).

    `took_ms` is what deciding took then, or the other agent took now; tokens are 0 where nobody counts them.
    """

    decision: str
    reason: str = ""
    step: str = ""
    text: str = ""
    agent: str = ""
    outcome: str = ""
    took_ms: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Compared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item: where ingress wrote it, what was said, and both sides; `why` says what is missing or new."""

    conversation: str
    tenant: str
    cause: str
    partition: int
    offset: int
    received_at: int
    verdict: Verdict
    question: str = ""
    kind: str = ""
    why: str = ""
    was: Outcome | None = None
    now: Outcome | None = None


def judge(was: Outcome | None, now: Outcome | None) -> tuple[Verdict, str]:
    """Return the verdict over an item, and the reason where it is not plain; one of the two sides is there.

    missing: the replay has no answer where there was one, or it would answer and nobody recorded what. new: the replay answers, or decides
    about, what was not.
    """
    if now is None:
        return "missing", "not decided about"
    if now.reason == NO_RECORD:
        return "missing", "would be answered, no answer is recorded"
    if was is None:
        return "new", "was not decided about"
    if bool(was.text) != bool(now.text):
        return ("missing", "would not be answered") if was.text else ("new", "was not answered")
    return ("same", "") if _counted(was) == _counted(now) else ("changed", "")


def _counted(outcome: Outcome) -> tuple[str, ...]:
    """Return what makes two outcomes the same: what became of the item, why, and the words."""
    return outcome.decision, outcome.reason, outcome.step, outcome.text


def chosen(decided: Sequence[Decided], step: str) -> Decided | None:
    """Return the decision that belongs to the send of this step (empty: there was none).

    A worker that died in the middle decides once more and records that too; of its sends the first one counts, and with it its decision,
    also where that was lost.
    """
    if not decided or not step:
        return decided[-1] if decided else None
    wanted = FAILED if step == FALLBACK_STEP else _ANSWERED
    known = next((each for each in decided if each.decision == wanted), None)
    return known or msgspec.structs.replace(decided[-1], decision=wanted, reason=FAILED if wanted == FAILED else "")


def outcome_of(decided: Decided, send: Send | None, *, sent: Sent | None = None, answered: Answered | None = None) -> Outcome:
    """Return one side: the text that counts is the one that left (`sent`); times and tokens are those of `answered` where it is given."""
    outcome = Outcome(decision=decided.decision, reason=decided.reason, took_ms=decided.worked_ms)
    if send is not None:
        text = sent.text if sent is not None else send.text
        outcome = msgspec.structs.replace(
            outcome, step=send.step, text=text, agent=send.agent, outcome=sent.outcome if sent is not None else ""
        )
    if answered is not None:
        outcome = msgspec.structs.replace(outcome, took_ms=answered.took_ms, tokens_in=answered.tokens_in, tokens_out=answered.tokens_out)
    return outcome
