"""What came of a replay in numbers, counted while the comparison is written."""

import hashlib
import math
from collections import Counter

import msgspec

from streams.replay.compare import VERDICTS, Compared, Outcome

_DIGITS = 3


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over all compared items; times are milliseconds, -1 where there are none.

    `answers` and `others` count verdicts: over items that either side answers, and over those that neither does (nothing to answer, late,
    and so on). `on_their_way` were keyed again and not decided about yet when the replay was made, `elsewhere` belonged to another key for
    reasons older than what was read, `unhandled` had not been handled: none of these is compared. `failures` are the causes for which the
    replay's agent gave no answer. `digest` is a SHA-256 over everything that was compared but times and tokens: the same for the same.
    """

    id: str
    answers: dict[str, int]
    others: dict[str, int]
    conversations: int
    differing_conversations: int
    on_their_way: int = 0
    elsewhere: int = 0
    unhandled: int = 0
    was_p50_ms: int = -1
    was_p99_ms: int = -1
    now_p50_ms: int = -1
    now_p99_ms: int = -1
    tokens_in: int = 0
    tokens_out: int = 0
    failures: dict[str, int] = {}
    digest: str = ""

    def count(self, verdict: str) -> int:
        """Return how many items have this verdict."""
        return self.answers.get(verdict, 0) + self.others.get(verdict, 0)

    @property
    def compared(self) -> int:
        """How many items were compared."""
        return sum(self.answers.values()) + sum(self.others.values())

    @property
    def all_same(self) -> bool:
        """Whether every item has the same outcome as then."""
        return self.count("same") == self.compared


class Times:
    """Durations counted by their first digits, so that any number of them takes little room."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value_ms: int) -> None:
        """Count one."""
        digits = len(str(value_ms)) - _DIGITS
        self._counts[round(value_ms, -digits) if digits > 0 else value_ms] += 1

    def percentile(self, share: float) -> int:
        """Return the value that `share` of them do not exceed, to three digits; -1 without any."""
        left = max(1, math.ceil(share * self._counts.total()))
        for value in sorted(self._counts):
            left -= self._counts[value]
            if left <= 0:
                return value
        return -1


class Counting:
    """Counts compared items, which come conversation by conversation."""

    def __init__(self) -> None:
        self.on_their_way = 0
        self.elsewhere = 0
        self._answers: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._was, self._now = Times(), Times()
        self._tokens_in = self._tokens_out = 0
        self._conversations = self._differing = 0
        self._conversation = ""
        self._differs = False
        self._digest = hashlib.sha256()

    def add(self, item: Compared, *, is_asked: bool) -> None:
        """Count one item; `is_asked`: another agent answered, and its times and failures count."""
        self._digest.update(msgspec.json.encode(_timeless(item)) + b"\n")
        if item.conversation != self._conversation:
            self._conversations += 1
            self._conversation, self._differs = item.conversation, False
        if item.verdict != "same" and not self._differs:
            self._differs = True
            self._differing += 1
        was, now = item.was, item.now
        is_answer = any(side is not None and side.text for side in (was, now))
        (self._answers if is_answer else self._others)[item.verdict] += 1
        if was is not None and was.text:
            self._was.add(was.took_ms)
        if is_asked and now is not None and now.step:
            self._now.add(now.took_ms)
            self._tokens_in += now.tokens_in
            self._tokens_out += now.tokens_out
            if now.decision == "failed":
                self._failures[now.reason] += 1

    def summary(self, name: str, *, unhandled: int) -> Summary:
        """Return the counts."""
        return Summary(
            id=name,
            answers={verdict: self._answers[verdict] for verdict in VERDICTS},
            others={verdict: self._others[verdict] for verdict in VERDICTS},
            conversations=self._conversations,
            differing_conversations=self._differing,
            on_their_way=self.on_their_way,
            elsewhere=self.elsewhere,
            unhandled=unhandled,
            was_p50_ms=self._was.percentile(0.5),
            was_p99_ms=self._was.percentile(0.99),
            now_p50_ms=self._now.percentile(0.5),
            now_p99_ms=self._now.percentile(0.99),
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            failures=dict(self._failures.most_common()),
            digest=self._digest.hexdigest(),
        )


def _timeless(item: Compared) -> Compared:
    return msgspec.structs.replace(item, was=_without_cost(item.was), now=_without_cost(item.now))


def _without_cost(outcome: Outcome | None) -> Outcome | None:
    return None if outcome is None else msgspec.structs.replace(outcome, took_ms=0, tokens_in=0, tokens_out=0)
