"""What the table and the page say: the verdict and the times as rows of words. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.demo.check import Verdict
from infra.demo.latency import percentile, reply_times, spoken
from infra.demo.played import PlayedConversation, PostTimes


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row: whether it is as promised (None: nothing was promised), what it is, how much, and a remark."""

    name: str
    value: str
    note: str = ""
    good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that was found out. Times are in seconds."""

    verdict: Verdict
    rows: list[Line]
    webhook_s: Sequence[float]
    reply_s: Sequence[float]
    statuses: int
    sentence: str


def summarize(played: Sequence[PlayedConversation], verdict: Verdict, times: PostTimes, *, statuses: int) -> Summary:
    """Return the rows of the table and the sentence above it; `statuses` is how many the platform posted."""
    webhook_s, reply_s = times.answered_s, reply_times(played)
    return Summary(
        verdict=verdict,
        rows=[*_promises(verdict), *_facts(verdict, webhook_s, reply_s, refused=times.refused)],
        webhook_s=webhook_s,
        reply_s=reply_s,
        statuses=statuses,
        sentence=_sentence(verdict),
    )


def _sentence(verdict: Verdict) -> str:
    if verdict.kept:
        return f"All {verdict.messages:,} messages were answered exactly once and in order, and all of it is in Cassandra."
    wrong = len(verdict.problems)
    return f"{wrong} {'thing is' if wrong == 1 else 'things are'} not as promised: see the list."


def _promises(verdict: Verdict) -> list[Line]:
    messages, replies = verdict.messages, verdict.answered
    return [
        _counted("messages accepted", verdict.stored, messages, note="answered with 200"),
        _counted("messages answered", verdict.answered, messages, note="exactly once, at the platform"),
        _counted("conversations in order", verdict.in_order, verdict.conversations, note="by the platform's books"),
        _counted("messages in Cassandra", verdict.in_cassandra, messages, note="read back over the API"),
        _counted("answers in Cassandra", verdict.replies_in_cassandra, replies, note="with the id the platform saw"),
        _counted("answers delivered", verdict.delivered, replies, note="their status is in Cassandra"),
    ]


def _facts(verdict: Verdict, webhook_s: Sequence[float], reply_s: Sequence[float], *, refused: int) -> list[Line]:
    return [
        Line(name="answers read", value=f"{verdict.read:,}", note="some users keep receipts off"),
        Line(name="messages posted twice", value=f"{verdict.posted_again:,}", note=_share(verdict.posted_again, verdict.messages)),
        Line(name="webhooks refused", value=f"{refused:,}", note="and posted again"),
        Line(name="webhook to 200", value=_both(webhook_s), note="p50 / p99, stored in Kafka by then"),
        Line(name="message to answer", value=_both(reply_s), note="p50 / p99, until the platform has it"),
    ]


def _counted(name: str, count: int, of: int, *, note: str) -> Line:
    return Line(name=name, value=f"{count:,} / {of:,}", note=note, good=count == of and of > 0)


def _both(values: Sequence[float]) -> str:
    return f"{spoken(percentile(values, 0.5))} / {spoken(percentile(values, 0.99))}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} of all" if whole else ""
