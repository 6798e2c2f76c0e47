"""Agents by their configuration."""

import asyncio

import pytest

from infra.errors import OttlaError
from infra.settings import Settings
from schemas.events.config import Agent as AgentConfig
from streams.agents.base import AgentBuildError, Turn
from streams.agents.registry import Agents


async def test_an_agent_is_built_once(agents: Agents) -> None:
    """The same configuration gives the same agent, also when it is asked for many times at once."""
    config = AgentConfig(id="shop", kind="offline")
    found = await asyncio.gather(*(agents.get(config) for _ in range(20)))
    assert len({id(agent) for agent in found}) == 1
    assert await agents.get(AgentConfig(id="shop", kind="offline")) is found[0]


async def test_a_changed_configuration_gives_another_agent(agents: Agents) -> None:
    """What is applied while the process runs takes effect with the next turn."""
    first = await agents.get(AgentConfig(id="shop", kind="offline"))
    second = await agents.get(AgentConfig(id="shop", kind="openai", model="m"))
    assert type(first) is not type(second)
    assert (await second.answer(Turn(conversation="c", text="x"))).model == "m"


async def test_tenants_do_not_share_agents(agents: Agents) -> None:
    """Agents of one id and two tenants are two agents."""
    one = await agents.get(AgentConfig(id="default", kind="offline", tenant="a"))
    assert await agents.get(AgentConfig(id="default", kind="offline", tenant="b")) is not one


async def test_an_unknown_kind_is_one_sentence(agents: Agents) -> None:
    """A kind that no module defines is named together with those there are."""
    with pytest.raises(AgentBuildError, match=r"^Agent shop is of kind 'oracle': use one of offline, openai\.$") as caught:
        await agents.get(AgentConfig(id="shop", kind="oracle"))
    assert (caught.value.cause, caught.value.retryable) == ("agent-misconfigured", False)
    assert isinstance(caught.value, OttlaError)


async def test_a_model_needs_its_address(agent_settings: Settings) -> None:
    """An agent of kind openai without OTTLA_AI_URL is refused when it is built, not with the first message."""
    agents = Agents(agent_settings.model_copy(update={"ai_url": ""}))
    with pytest.raises(AgentBuildError, match=r"^Agent shop is of kind openai and OTTLA_AI_URL is not set: set it, or use kind offline\.$"):
        await agents.get(AgentConfig(id="shop", kind="openai"))
    await agents.close()


async def test_closing_twice_is_fine(agents: Agents) -> None:
    """Closing what is closed does nothing."""
    await (await agents.get(AgentConfig(id="shop", kind="openai"))).answer(Turn(conversation="c", text="x"))
    await agents.close()
    await agents.close()
