"""Running agents by their configuration: the kinds are the modules of this package that define `KIND` and `build`."""

import asyncio
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

import streams.agents
from infra.settings import Settings
from schemas.events.config import Agent as AgentConfig
from streams.agents.base import Agent, AgentBuildError, Context

Build = Callable[[AgentConfig, Context], Agent]


@cache
def agent_kinds() -> dict[str, Build]:
    """Return what builds an agent of each kind, by the kind's name."""
    kinds: dict[str, Build] = {}
    for found in pkgutil.iter_modules(streams.agents.__path__):
        module = importlib.import_module(f"{streams.agents.__name__}.{found.name}")
        if hasattr(module, "KIND"):
            kinds[module.KIND] = module.build
    return kinds


class Agents:
    """The agents of one process, each built when it is first asked for, and again when its configuration has changed."""

    def __init__(self, settings: Settings) -> None:
        self._context = Context(settings)
        self._built: dict[str, tuple[AgentConfig, Agent]] = {}
        self._building = asyncio.Lock()

    async def get(self, config: AgentConfig) -> Agent:
        """Return the agent of a configuration; AgentBuildError if it cannot be built."""
        key = f"{config.tenant}/{config.id}"
        known = self._built.get(key)
        if known is None or known[0] != config:
            async with self._building:
                known = self._built.get(key)
                if known is None or known[0] != config:
                    # Reading and indexing a large knowledge file must not hold up the event loop.
                    known = self._built[key] = config, await asyncio.to_thread(build_agent, config, self._context)
        return known[1]

    async def close(self) -> None:
        """Close what the agents share; they cannot answer any more."""
        self._built.clear()
        await self._context.close()


def build_agent(config: AgentConfig, context: Context) -> Agent:
    """Return a new agent; AgentBuildError if its kind or configuration cannot be used."""
    build = agent_kinds().get(config.kind)
    if build is None:
        raise AgentBuildError(f"Agent {config.id} is of kind {config.kind!r}: use one of {', '.join(sorted(agent_kinds()))}.")
    return build(config, context)
