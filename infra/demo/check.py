"""The verdict: was every message answered exactly once, in order, and is all of it in Cassandra? Pure functions over the notes.

What answers what is known from outside: a send's id, which its callback data carries, is a pure function of the message it answers.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.demo.history import ApiMessage
from infra.demo.played import PlayedConversation
from schemas.ids import event_id, send_id

_STEPS = ("reply", "fallback")


@dataclass(kw_only=True)
class Verdict:
    """Counts, and one sentence for each thing that is wrong; without any, all promises were kept."""

    conversations: int = 0
    messages: int = 0
    posts: int = 0
    stored: int = 0
    answered: int = 0
    in_order: int = 0
    in_cassandra: int = 0
    replies_in_cassandra: int = 0
    delivered: int = 0
    read: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def posted_again(self) -> int:
        """How many postings were of a message that had been posted before."""
        return self.posts - self.messages

    @property
    def kept(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check(conversations: Sequence[PlayedConversation], histories: Mapping[str, Sequence[ApiMessage]]) -> Verdict:
    """Compare what was posted with what the platform got and with what the API shows (oldest first)."""
    verdict = Verdict(conversations=len(conversations))
    for played in conversations:
        history = histories.get(played.key, ())
        verdict.messages += len(played.messages)
        verdict.posts += sum(message.posts for message in played.messages)
        verdict.stored += sum(message.stored for message in played.messages)
        problems = [*_wrong_posts(played), *_wrong_replies(played), *_wrong_order(played), *_wrong_history(played, history)]
        verdict.problems += [f"{played.key}: {problem}" for problem in problems]
        answers = answered_by(played)
        verdict.answered += sum(bool(answers.count(number)) for number in range(len(played.messages)))
        verdict.in_order += not [*_wrong_order(played)]
        _count_history(verdict, played, history)
    return verdict


def answered_by(played: PlayedConversation) -> list[int | None]:
    """Return for each reply, in order of arrival, the number of the message that it answers; None if it answers none of them."""
    numbers = {
        send_id(conversation=played.key, cause=event_id(played.key, message.platform_id), step=step): number
        for number, message in enumerate(played.messages)
        for step in _STEPS
    }
    return [numbers.get(reply.send) for reply in played.replies]


def is_complete(played: PlayedConversation, history: Sequence[ApiMessage]) -> bool:
    """Tell whether the API shows all messages, all replies, and delivered for each reply."""
    shown = {message.platform_id for message in history if message.direction == "in"}
    delivered = {message.id for message in history if message.direction == "out" and _was_delivered(message)}
    return {message.platform_id for message in played.messages} <= shown and {reply.send for reply in played.replies} <= delivered


def _wrong_posts(played: PlayedConversation) -> Iterator[str]:
    missing = played.conversation.size - sum(message.stored for message in played.messages)
    if missing:
        yield f"{missing} of {played.conversation.size} messages were not played to the end."


def _wrong_replies(played: PlayedConversation) -> Iterator[str]:
    counts = Counter(answered_by(played))
    for number, message in enumerate(played.messages):
        if not counts[number]:
            yield f"message {number + 1} ({message.platform_id}) was never answered."
        elif counts[number] > 1:
            yield f"message {number + 1} ({message.platform_id}) was answered {counts[number]} times."
    if counts[None]:
        yield f"{counts[None]} sends answer no message of it."


def _wrong_order(played: PlayedConversation) -> Iterator[str]:
    order = [number for number in answered_by(played) if number is not None]
    for before, after in itertools.pairwise(order):
        if after < before:
            yield f"the answer to message {before + 1} came before the answer to message {after + 1}."
            return


def _wrong_history(played: PlayedConversation, history: Sequence[ApiMessage]) -> Iterator[str]:
    posted = [message.platform_id for message in played.messages]
    shown = [message.platform_id for message in history if message.direction == "in"]
    sent = list(dict.fromkeys(reply.send for reply in played.replies))
    replies = [message.id for message in history if message.direction == "out"]
    yield from _differences("messages", posted, [str(shown_id) for shown_id in shown])
    yield from _differences("replies", sent, replies)
    late = [message for message in history if message.direction == "out" and not _was_delivered(message)]
    if late:
        yield f"{len(late)} replies have no delivered status in Cassandra."


def _differences(what: str, expected: Sequence[str], found: Sequence[str]) -> Iterator[str]:
    counts = Counter(found)
    missing = sum(not counts[one] for one in expected)
    if missing:
        yield f"{missing} of {len(expected)} {what} are not in Cassandra."
    doubled = sum(count > 1 for count in counts.values())
    if doubled:
        yield f"{doubled} {what} are in Cassandra more than once."
    strange = len(counts.keys() - set(expected))
    if strange:
        yield f"{strange} {what} in Cassandra are none of ours."
    if not (missing or doubled or strange) and list(found) != list(expected):
        yield f"{what} in Cassandra are not in the order in which they came."


def _count_history(verdict: Verdict, played: PlayedConversation, history: Sequence[ApiMessage]) -> None:
    shown = {message.platform_id for message in history if message.direction == "in"}
    out = {message.id: message for message in history if message.direction == "out"}
    verdict.in_cassandra += sum(message.platform_id in shown for message in played.messages)
    for send in {reply.send for reply in played.replies}:
        if send in out:
            verdict.replies_in_cassandra += 1
            verdict.delivered += _was_delivered(out[send])
            verdict.read += "read" in out[send].status_names


def _was_delivered(message: ApiMessage) -> bool:
    # The user's phone may skip delivered and report read at once.
    return bool(message.status_names & {"delivered", "read"})
