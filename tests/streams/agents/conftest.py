"""Agents of every kind, the model over real HTTP."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.simulator.model import SimulatedModel
from streams.agents.registry import Agents

DATA = Path(__file__).parent / "data"


@pytest.fixture
async def model() -> AsyncIterator[SimulatedModel]:
    async with SimulatedModel(seed=1) as model:
        yield model


@pytest.fixture
def agent_settings(model: SimulatedModel, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, ai_url=model.api_url, ai_timeout=5.0, worker="test", _env_file=None)


@pytest.fixture
async def agents(agent_settings: Settings) -> AsyncIterator[Agents]:
    agents = Agents(agent_settings)
    yield agents
    await agents.close()


@pytest.fixture(scope="session")
def utterances() -> list[str]:
    """Give what people of 129 languages, and some attackers, write."""
    return list(_read_utterances())


def _read_utterances() -> Iterator[str]:
    with gzip.open(DATA / "multilingual.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]
