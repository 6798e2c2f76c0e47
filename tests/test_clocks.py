"""Wall clocks that step by a day: nothing is lost, doubled or out of order."""

import asyncio
import random
from dataclasses import replace

import pytest

from infra.settings import Settings
from tests.driver import Driver, Load
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

DAY_S = 86_400


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
async def test_a_clock_that_steps_by_a_day_changes_nothing(settings: Settings, step_s: int) -> None:
    """Every role's wall clock steps in the middle of a load, more is posted, and it steps back; a fifth of the webhooks is posted twice."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    load = Load(conversations=30, messages=4, seed=seed)
    async with Installation(settings, breakable=True, supervised=True) as installation:
        installation.model.delay_s = 0.05
        drivers = [Driver(installation, load), Driver(installation, replace(load, first_phone=15550001000))]
        for driver, clock_s in zip(drivers, (step_s, 0), strict=True):
            playing = asyncio.create_task(driver.play())
            await installation.platform.books.wait_for("accepted", 30 + 120 * drivers.index(driver), timeout_s=60)
            for role in installation.running.values():
                role.arm(f"clock={clock_s}")
            await playing
        for driver in drivers:
            await driver.answered(timeout_s=60)
            assert driver.verdict().clean, driver.verdict()
        assert installation.platform.books.duplicates() == {}
