"""The fence: what a replay has in the place of senders, producers and models can have no effect."""

import subprocess
import sys

import pytest

from infra.errors import UNSAFE
from infra.kafka.producer import ProduceError, Producer
from schemas.topics import DEAD_LETTERS, INBOUND, TOPICS
from streams.agents.base import AgentError, Turn
from streams.decisions import configured
from streams.replay.answers import NO_RECORD, RecordedAnswers
from streams.replay.fence import FencedError, FencedSender, FencedWriter
from streams.replay.moment import Moment, enter
from streams.replay.store import Store
from tests.history_events import NOON_MS, Talk


@pytest.fixture
def store(tmp_path: object) -> Store:
    enter(Moment(now_ms=NOON_MS, partition=3, offset=7, is_compared=True))
    return Store(tmp_path / "work.sqlite")  # type: ignore[operator]


async def test_a_sender_that_is_handed_a_message_refuses_it() -> None:
    """The replay's sender raises for a message that the real one would post, as something unsafe."""
    talk = Talk()
    with pytest.raises(FencedError, match="never sends") as caught:
        await FencedSender().handle([talk.outbound(talk.cause("wamid.1"), "hello", at_ms=NOON_MS)])
    assert caught.value.exit_code == UNSAFE


async def test_the_writer_writes_nowhere(store: Store) -> None:
    """It is no producer and knows no broker; decisions and sends are noted, any other topic is refused so that the stage stops."""
    writer = FencedWriter(store)
    assert not isinstance(writer, Producer)
    assert vars(writer) == {"_store": store}
    noted = {"raw", "inbound", "dead-letters", "outbound-critical", "outbound-high", "outbound-normal", "outbound-bulk"}
    talk = Talk()
    values = {name: talk.outbound(talk.cause("wamid.1"), "hello", at_ms=NOON_MS).value for name in noted}
    values[INBOUND.name] = talk.inbound("wamid.1", "hi", at_ms=NOON_MS).value
    for topic in TOPICS:
        if topic.name in noted:
            assert await writer.send(topic.name, key=b"k", value=values[topic.name], headers=[("ce_id", b"1")]) == 0
        else:
            with pytest.raises(ProduceError):
                await writer.send(topic.name, key=b"k", value=b"{}", headers=[])
    assert DEAD_LETTERS.name in noted


async def test_recorded_answers_can_make_no_call(store: Store) -> None:
    """Without a record there is no answer and no call: all it has is the store."""
    answers = RecordedAnswers(store)
    assert vars(answers) == {"_store": store}
    with pytest.raises(AgentError) as caught:
        await answers.answer(configured(None, {}, default_kind="openai"), Turn(conversation="wa:1:2", text="hello", send="0" * 32))
    assert caught.value.cause == NO_RECORD


def test_a_replay_imports_no_sink() -> None:
    """The process that replays has not even loaded the code that sends."""
    code = "import sys, streams.replay.run, infra.cli.replay; print([name for name in sys.modules if name.split('.')[0] == 'sinks'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
