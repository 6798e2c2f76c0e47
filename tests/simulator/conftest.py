"""A platform, a receiver of its webhooks and a client, all over real HTTP."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from infra.simulator.platform import SimulatedPlatform
from infra.simulator.statuses import StatusTimes
from tests.simulator.receiver import Receiver

SECRET = b"a test secret"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def platform(receiver: Receiver) -> AsyncIterator[SimulatedPlatform]:
    times = StatusTimes(sent_s=0, delivered_s=0.1, read_s=0.2)
    async with SimulatedPlatform(webhook_url=receiver.webhook_url, app_secret=SECRET, seed=1, times=times) as platform:
        yield platform


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer a-token"}) as client:
        yield client
