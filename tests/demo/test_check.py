"""The check finds what is planted: pure functions over hand-made notes."""

import itertools
import math

from infra.demo.check import check, is_complete
from infra.demo.conversations import Conversation, dump_conversations, load_conversations
from infra.demo.history import ApiMessage, ApiStatus
from infra.demo.latency import histogram, percentile, reply_times, spoken
from infra.demo.played import PlayedConversation, PostTimes, Reply, UserMessage
from infra.demo.summary import summarize
from schemas.ids import event_id, send_id

DELIVERED = [ApiStatus(status="sent"), ApiStatus(status="delivered")]


def _played(count: int = 3) -> PlayedConversation:
    """Return a conversation in which everything is as it should be; each answer comes 100 ms after its message."""
    conversation = Conversation(id="c", source="s", lang="en", bursts=[[f"text {number}" for number in range(count)]])
    played = PlayedConversation(conversation=conversation, account="1", phone="2")
    for number in range(count):
        message = UserMessage(platform_id=f"wamid.{number}", text=f"text {number}", posted_at=1000.0 * number, posts=1, stored=True)
        played.messages.append(message)
        send = send_id(conversation=played.key, cause=event_id(played.key, message.platform_id), step="reply")
        played.replies.append(Reply(send=send, platform_id=f"wamid.r{number}", at=message.posted_at + 100, text="yes"))
    return played


def _history(played: PlayedConversation) -> list[ApiMessage]:
    incoming = [ApiMessage(id=f"in{number}", direction="in", platform_id=one.platform_id) for number, one in enumerate(played.messages)]
    outgoing = [ApiMessage(id=one.send, direction="out", platform_id=one.platform_id, statuses=DELIVERED) for one in played.replies]
    return [message for pair in zip(incoming, outgoing, strict=True) for message in pair]


def _problems(played: PlayedConversation, history: list[ApiMessage]) -> str:
    return " ".join(check([played], {played.key: history}).problems)


def test_nothing_is_wrong_where_all_is_right() -> None:
    """A complete conversation has no problems and full counts."""
    played = _played()
    verdict = check([played], {played.key: _history(played)})
    assert verdict.problems == []
    assert (verdict.answered, verdict.in_order, verdict.in_cassandra, verdict.replies_in_cassandra, verdict.delivered) == (3, 1, 3, 3, 3)


def test_a_lost_answer_is_found() -> None:
    """A message without an answer is named."""
    played = _played()
    history = _history(played)
    del played.replies[1]
    assert "message 2 (wamid.1) was never answered" in _problems(played, history)


def test_a_second_answer_is_found() -> None:
    """The same send accepted twice, or a fallback beside a reply, is one answer too many."""
    played = _played()
    history = _history(played)
    played.replies.append(played.replies[2])
    assert "message 3 (wamid.2) was answered 2 times" in _problems(played, history)
    fallback = send_id(conversation=played.key, cause=event_id(played.key, "wamid.2"), step="fallback")
    played.replies[-1] = Reply(send=fallback, platform_id="wamid.f", at=5000, text="sorry")
    assert "message 3 (wamid.2) was answered 2 times" in _problems(played, history)


def test_a_fallback_alone_is_an_answer() -> None:
    """A message answered by its fallback text was answered."""
    played = _played(1)
    fallback = send_id(conversation=played.key, cause=event_id(played.key, "wamid.0"), step="fallback")
    played.replies[0] = Reply(send=fallback, platform_id="wamid.f", at=5000, text="sorry")
    assert _problems(played, _history(played)) == ""


def test_answers_out_of_order_are_found() -> None:
    """Answers that reached the platform in another order than their messages are named."""
    played = _played()
    history = _history(played)
    played.replies[0], played.replies[1] = played.replies[1], played.replies[0]
    assert "the answer to message 2 came before the answer to message 1" in _problems(played, history)


def test_a_send_for_nothing_is_found() -> None:
    """A send that answers no message of the conversation is counted."""
    played = _played()
    history = _history(played)
    played.replies.append(Reply(send="", platform_id="wamid.x", at=9000, text="?"))
    assert "1 sends answer no message of it" in _problems(played, history)


def test_gaps_doubles_and_strangers_in_history_are_found() -> None:
    """History must have each message and each answer once, in order, with its status, and nothing else."""
    played = _played()
    history = _history(played)
    assert "1 of 3 messages are not in Cassandra" in _problems(played, history[1:])
    assert "1 of 3 replies are not in Cassandra" in _problems(played, history[:-1])
    assert "1 messages are in Cassandra more than once" in _problems(played, [*history, history[0]])
    stranger = ApiMessage(id="x", direction="in", platform_id="wamid.x")
    assert "1 messages in Cassandra are none of ours" in _problems(played, [*history, stranger])
    assert "not in the order in which they came" in _problems(played, [history[2], history[1], history[0], *history[3:]])
    silent = [ApiMessage(id=one.id, direction=one.direction, platform_id=one.platform_id) for one in history]
    assert "3 replies have no delivered status" in _problems(played, silent)


def test_a_conversation_that_was_not_played_to_its_end_is_found() -> None:
    """A message that was never stored is said, also when it was never posted."""
    played = _played()
    history = _history(played)
    played.messages[2].stored = False
    assert "1 of 3 messages were not played to the end" in _problems(played, history)


def test_completeness_waits_for_statuses() -> None:
    """History is complete only when it has every message, every answer and that it was delivered."""
    played = _played()
    history = _history(played)
    assert is_complete(played, history)
    assert not is_complete(played, history[1:])
    assert not is_complete(played, [ApiMessage(id=one.id, direction=one.direction, platform_id=one.platform_id) for one in history])


def test_read_alone_counts_as_delivered() -> None:
    """A phone that reports read at once need not report delivered."""
    played = _played(1)
    history = _history(played)
    history[1] = ApiMessage(id=history[1].id, direction="out", platform_id="wamid.r0", statuses=[ApiStatus(status="read")])
    assert _problems(played, history) == ""


def test_reply_times_are_from_posting_to_the_platform() -> None:
    """Each first answer gives one time in seconds; a second one gives none."""
    played = _played()
    played.replies.append(played.replies[0])
    assert reply_times([played]) == [0.1, 0.1, 0.1]


def test_percentiles_are_of_the_values() -> None:
    """The nearest rank is taken; without values there is none."""
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    assert math.isnan(percentile([], 0.5))
    assert spoken(percentile([], 0.5)) == "-"


def test_a_histogram_holds_every_value() -> None:
    """No value falls between or beside the bars, whatever its size."""
    values = [0.0, 1e-5, 0.001, 0.01, 0.0999999, 0.1, 1.0, 10.0, 123.0]
    bars = histogram(values)
    assert sum(bar.count for bar in bars) == len(values)
    assert all(left.to_s == right.from_s for left, right in itertools.pairwise(bars))
    assert histogram([]) == []


def test_the_summary_says_what_is_wrong() -> None:
    """The sentence and the marks follow the verdict."""
    played = _played()
    good = summarize([played], check([played], {played.key: _history(played)}), PostTimes(answered_s=[0.01]), statuses=0)
    assert good.sentence.startswith("All 3 messages")
    assert all(row.good is not False for row in good.rows)
    bad = summarize([played], check([played], {}), PostTimes(), statuses=0)
    assert not bad.verdict.kept
    assert [row.name for row in bad.rows if row.good is False] == ["messages in Cassandra", "answers in Cassandra", "answers delivered"]


def test_the_stored_conversations_are_two_hundred_with_bursts() -> None:
    """The file has 200 conversations with ids of their own, many bursts, and is written the same again."""
    conversations = load_conversations()
    assert len({one.id for one in conversations}) == len(conversations) == 200
    assert sum(len(burst) > 1 for one in conversations for burst in one.bursts) > 100
    assert all(text.strip() for one in conversations for burst in one.bursts for text in burst)
    assert dump_conversations(conversations) == dump_conversations(load_conversations())
