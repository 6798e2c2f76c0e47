"""Wall clocks that step by a day: nothing is lost, doubled or out of order."""

import asyncio
import random

import pytest

from infra.settings import Settings
from tests.driver import Driver, Load
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

DAY_S = 86_400


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
async def test_a_clock_that_steps_by_a_day_changes_nothing(settings: Settings, step_s: int) -> None:
    """Every role's wall clock steps in the middle of a load and back again; a fifth of the webhooks is posted twice all the same."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    load = Load(conversations=30, messages=4, seed=seed)
    async with Installation(settings, breakable=True, supervised=True) as installation:
        installation.model.delay_s = 0.05
        driver = Driver(installation, load)
        playing = asyncio.create_task(driver.play())
        for accepted, clock_s in ((30, step_s), (70, 0)):
            await installation.platform.books.wait_for("accepted", accepted, timeout_s=60)
            for role in installation.running.values():
                role.arm(f"clock={clock_s}")
        await playing
        await driver.answered(timeout_s=60)
        assert driver.verdict().clean, driver.verdict()
        assert installation.platform.books.duplicates() == {}
