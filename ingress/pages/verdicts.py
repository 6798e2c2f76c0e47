"""What an installation keeps of its promises just now, a sentence for each, and its flow as figures. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infra.lag.burrow import State, worst
from ingress.pages.counts import Counts
from ingress.pages.words import counted, took
from schemas.topics import DEAD_LETTERS, INBOUND, LEDGER, OUTBOUND, RAW, SENT, STATUS

GOOD, WARN, BAD, UNKNOWN = "good", "warn", "bad", "unknown"

_PROMPT_S = 5.0
_DAY_S = 86_400.0
_UNWELL = frozenset({State.STOP, State.STALL, State.REWIND})
_OUTBOUND = tuple(topic.name for topic in OUTBOUND.values())
_SERVER_ERROR = "5"

Rows = Sequence[Mapping[str, Any]]
"""A row for each group and topic, as GET /v1/groups answers them."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A promise, how it is kept (good, warn, bad or unknown), in a sentence, and where to look."""

    promise: str
    state: str
    sentence: str
    href: str = ""
    link: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from one station to the next: records a second, how many wait and how long the oldest has, and what went wrong.

    A figure that is not known is None; `lag` is None also where nothing can wait. `href` leads to the topics, `wrong_href` to that.
    """

    topics: str
    per_s: float | None
    lag: int | None = None
    lag_s: float | None = None
    state: str = ""
    wrong: str = ""
    href: str = ""
    wrong_href: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether whoever reads here does not get on."""
        return self.state in _UNWELL


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """The edges of the picture, in the order in which a message takes them, then those beside its way."""

    webhooks: Edge
    raw: Edge
    outbound: Edge
    sends: Edge
    status: Edge
    ledger: Edge
    history: Edge
    dead_letters: Edge


def verdicts_of_log(rows: Rows, away: str) -> list[Verdict]:
    """Return what the groups' places in the log say; `away` says why they are not known."""
    names = ("Nothing accepted is lost", "Messages are answered promptly", "History has it all")
    if away:
        return [Verdict(promise=name, state=UNKNOWN, sentence=_not_known(away)) for name in names]
    flow = [row for row in rows if row["group"] in ("streams", "sender")]
    history = [row for row in rows if row["group"] == "history"]
    return [
        _kept(names[0], rows),
        _prompt(names[1], flow, "Nothing waits: what came is handled, and what was to be sent is sent."),
        _prompt(names[2], history, "Everything that was handled can be read."),
    ]


def verdicts_of_history(counts: Counts | None, away: str = "") -> list[Verdict]:
    """Return what is listed for somebody to look at; `away` says why it is not known."""
    twice, answered = "Nothing is sent twice", "Every failure is answered"
    if counts is None:
        return [Verdict(promise=name, state=UNKNOWN, sentence=_not_known(away)) for name in (twice, answered)]
    sends = _so_many(counts.unknown_sends, counts.more_sends, "send")
    letters = _so_many(counts.open_letters, counts.more_letters, "failure waits", "failures wait")
    return [
        Verdict(promise=twice, state=GOOD, sentence="Every send that was tried has its outcome.")
        if not counts.unknown_sends
        else Verdict(
            promise=twice,
            state=WARN,
            sentence=f"The answer to {sends} was lost: parked, and not sent again unless you say so.",
            href="/sends",
            link="Unknown sends",
        ),
        Verdict(promise=answered, state=GOOD, sentence="No failure is open.")
        if not counts.open_letters
        else Verdict(
            promise=answered, state=WARN, sentence=f"{letters} to be looked at and redriven.", href="/dead-letters", link="Dead letters"
        ),
    ]


def headline_of(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts in a few words, the worst first."""
    states = {each.state for each in verdicts}
    if BAD in states:
        return "A promise is not kept"
    if WARN in states:
        return "Something needs a look"
    return "Not all is known just now" if UNKNOWN in states else "All is as promised"


def refused_of(answers: Mapping[str, int]) -> int:
    """Return how many webhooks were not stored, from how often each HTTP status was answered: the platform sends those again."""
    return sum(number for status, number in answers.items() if status.startswith(_SERVER_ERROR))


def flow_of(rows: Rows, counts: Counts | None, refused: int) -> Flow:
    """Return the edges of the flow. `counts` are None while history is away, `refused` are the webhooks that this process did not store."""
    stored = [_rate(rows, topic.name) for topic in (RAW, STATUS)]
    unknown = counts.unknown_sends if counts is not None else 0
    letters: dict[str, int] = defaultdict(int)
    for each in counts.groups if counts is not None else ():
        letters[each.stage] += each.open
    return Flow(
        webhooks=Edge(topics="webhooks", per_s=_sum(stored), wrong=f"{refused:,} not stored" if refused else "", href="/topics/raw"),
        raw=_edge(rows, "raw", "streams", (RAW.name,), letters),
        outbound=_edge(rows, "outbound", "sender", _OUTBOUND, letters),
        sends=Edge(
            topics="sent",
            per_s=_rate(rows, SENT.name),
            href="/topics/sent",
            wrong=f"{unknown:,}{'+' if counts is not None and counts.more_sends else ''} unknown" if unknown else "",
            wrong_href="/sends" if unknown else "",
        ),
        status=_edge(rows, "status", "sender", (STATUS.name,), {}),
        ledger=_edge(rows, "ledger", "sender", (LEDGER.name,), {}),
        history=_edge(rows, "inbound, outbound, sent, status", "history", (INBOUND.name, *_OUTBOUND, SENT.name, STATUS.name), letters),
        dead_letters=_edge(rows, "dead-letters", "dead-letters", (DEAD_LETTERS.name,), {}),
    )


def _edge(rows: Rows, title: str, to: str, topics: Sequence[str], letters: Mapping[str, int]) -> Edge:
    meant = [row for row in rows if row["group"] == to and row["topic"] in topics]
    failures = letters.get(to, 0)
    return Edge(
        topics=title,
        per_s=_sum([row["in_per_second"] for row in meant]),
        lag=sum(row["lag_messages"] for row in meant) if meant else None,
        lag_s=_longest(meant),
        state=str(worst([State(row["state"]) for row in meant])) if meant else "",
        wrong=counted(failures, "failure") if failures else "",
        href=f"/topics/{topics[0]}" if len(topics) == 1 else "/topics",
        wrong_href="/dead-letters" if failures else "",
    )


def _rate(rows: Rows, topic: str) -> float | None:
    """Return how many records a second come into a topic, whoever reads it."""
    return max((row["in_per_second"] for row in rows if row["topic"] == topic and row["in_per_second"] is not None), default=None)


def _sum(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _kept(promise: str, rows: Rows) -> Verdict:
    lost = sum(row["lost_messages"] for row in rows)
    left = min((row["retention_left_seconds"] for row in rows if row["retention_left_seconds"] is not None), default=None)
    if lost:
        sentence = f"{counted(lost, 'record was', 'records were')} deleted by age before anybody handled {'it' if lost == 1 else 'them'}."
        return Verdict(promise=promise, state=BAD, sentence=sentence, href="/topics", link="Topics and groups")
    if left is not None and left < _DAY_S:
        sentence = f"What waits longest is deleted in {took(max(0.0, left) * 1000)}."
        return Verdict(promise=promise, state=BAD, sentence=sentence, href="/topics", link="Topics and groups")
    if not rows:
        return Verdict(promise=promise, state=UNKNOWN, sentence="There are no topics yet: run `ottla topics create`.")
    return Verdict(promise=promise, state=GOOD, sentence="No record was deleted before it was handled, and none is about to be.")


def _prompt(promise: str, rows: Rows, well: str) -> Verdict:
    topics = {"href": "/topics", "link": "Topics and groups"}
    unwell = sorted({f"{row['group']} is at {row['state']} in {row['topic']}" for row in rows if row["state"] in _UNWELL})
    lag, longest = sum(row["lag_messages"] for row in rows), _longest(rows)
    waits = f"{counted(lag, 'record waits', 'records wait')}" + (f", the oldest for {took(longest * 1000)}" if longest else "")
    if unwell:
        more = f", and {len(unwell) - 1} more" if len(unwell) > 1 else ""
        return Verdict(promise=promise, state=BAD, sentence=f"{waits}: {unwell[0]}{more}.", **topics)
    if not rows:
        return Verdict(promise=promise, state=UNKNOWN, sentence="Nobody has handled anything yet.", **topics)
    if not lag:
        return Verdict(promise=promise, state=GOOD, sentence=well)
    state = GOOD if longest is not None and longest < _PROMPT_S else WARN
    return Verdict(promise=promise, state=state, sentence=f"{waits}.", **topics)


def _longest(rows: Rows) -> float | None:
    return max((row["lag_seconds"] for row in rows if row["lag_messages"] and row["lag_seconds"] is not None), default=None)


def _so_many(number: int, is_more: bool, one: str, many: str = "") -> str:
    """Return a number with its noun; with a plus where only so many were counted."""
    return counted(number, one, many) if not is_more else f"{number:,}+ {many or f'{one}s'}"


def _not_known(away: str) -> str:
    return f"Not known just now: {away.rstrip('.')}."
