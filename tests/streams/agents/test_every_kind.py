"""What holds for an agent of any kind, so for the next one as well."""

import asyncio
from typing import Literal

import pytest

from schemas.config_file import AGENT_KINDS
from schemas.events.config import Agent as AgentConfig
from streams.agents.base import Agent, Turn
from streams.agents.registry import Agents, agent_kinds


@pytest.fixture(params=sorted(agent_kinds()))
async def agent(request: pytest.FixtureRequest, agents: Agents) -> Agent:
    return await agents.get(AgentConfig(id="tested", kind=request.param))


def test_the_contract_names_every_kind() -> None:
    """`ottla apply` takes exactly the kinds that there are."""
    assert set(AGENT_KINDS) == set(agent_kinds())


@pytest.mark.parametrize(
    "text", ["I want a refund", "", " ", "\x00", "\ud800", "🙏", "word " * 50_000, "שלום עולם", "\u202e", "[location 1.0,2.0]"]
)
async def test_every_text_gets_an_answer(agent: Agent, text: str) -> None:
    """Whatever a user writes, the answer is a text to send and says who gave it."""
    reply = await agent.answer(Turn(conversation="wa:1:2", text=text))
    assert reply.text.strip()
    assert reply.text.encode("utf-8")
    assert reply.model
    assert reply.tokens_in >= 0
    assert reply.tokens_out >= 0


async def test_every_language_gets_an_answer(agent: Agent, utterances: list[str]) -> None:
    """No utterance of the corpus, hostile ones included, makes it fail."""
    for text in utterances[::7]:
        assert (await agent.answer(Turn(conversation="wa:1:2", text=text))).text.strip()


async def test_a_long_history_is_fine(agent: Agent) -> None:
    """Users who write several times before an answer, and long histories, are fine."""
    said: tuple[tuple[Literal["user", "assistant"], str], ...] = (("user", "one"), ("user", "two"), ("assistant", "three"))
    assert (await agent.answer(Turn(conversation="wa:1:2", text="four", history=said * 50, instructions="Be kind."))).text


async def test_many_conversations_at_once(agent: Agent) -> None:
    """Turns of many conversations are answered side by side, each with its own answer."""
    texts = [f"refund {number}" for number in range(300)]
    replies = await asyncio.gather(*(agent.answer(Turn(conversation=f"wa:1:{text}", text=text)) for text in texts))
    alone = [await agent.answer(Turn(conversation="wa:1:2", text=text)) for text in texts[:5]]
    assert [reply.text for reply in replies[:5]] == [reply.text for reply in alone]


async def test_a_cancelled_turn_harms_no_other(agent: Agent) -> None:
    """After a turn that was given up in the middle the next one is answered."""
    turn = Turn(conversation="wa:1:2", text="I want a refund")
    cancelled = asyncio.create_task(agent.answer(turn))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert (await agent.answer(turn)).text
