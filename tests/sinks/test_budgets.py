"""sinks.budgets: how fast a number and a pair may be sent to, who goes first, and what waits elsewhere."""

import asyncio
import itertools
import time
from collections.abc import Callable

import msgspec
import pytest

from infra.clock import SystemClock
from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.webhooks import text_body
from schemas.events.inbound import RecordPosition
from schemas.events.outbound import OutboundEvent
from sinks import budgets as module
from sinks.budgets import BEHIND_MAX, PAIR_BURST, Budgets
from tests.driver import ACCOUNT, Driver, Load
from tests.installation import Installation
from tests.reading import wait_for_records
from tests.sinks.test_pauses import Hand
from tests.sinks.test_planned import OTHER, WAITING, plans, texts


def send(*, number: str = "1", to: str = "2", priority: str = "high", is_reply: bool = False) -> OutboundEvent:
    """Return a send."""
    return OutboundEvent(
        id="s",
        conversation=f"wa:{number}:{to}",
        tenant="default",
        channel="whatsapp",
        account=number,
        to=to,
        to_kind="phone",
        priority=priority,
        message=msgspec.Raw(b"{}"),
        cause="c",
        step="0",
        created_at=0,
        raw=RecordPosition(topic="raw", partition=0, offset=0) if is_reply else None,
    )


@pytest.fixture
def clock() -> Hand:
    return Hand()


def at_once(budgets: Budgets, make: Callable[[int], OutboundEvent], *, rate: float | None = None) -> int:
    """Return how many can be sent without waiting, 500 at most."""
    return next((number for number in range(500) if not budgets.take_at_once(make(number), rate)), 500)


def test_a_pair_has_a_burst_and_then_one_in_six_seconds(clock: Hand) -> None:
    budgets = Budgets(clock, number_rate=0, pair_rate=1)
    assert at_once(budgets, lambda _: send()) == PAIR_BURST
    assert budgets.take_at_once(send(to="3"), None)  # others are not held up
    for _ in range(3):
        clock.seconds += 5.9
        assert not budgets.take_at_once(send(), None)
        clock.seconds += 0.1
        assert budgets.take_at_once(send(), None)
        assert not budgets.take_at_once(send(), None)
    clock.seconds += 3600
    assert at_once(budgets, lambda _: send()) == PAIR_BURST


def test_a_pair_rate_of_two_is_twice_as_fast(clock: Hand) -> None:
    budgets = Budgets(clock, number_rate=0, pair_rate=2)
    at_once(budgets, lambda _: send())
    clock.seconds += 3
    assert at_once(budgets, lambda _: send()) == 1


def test_zero_is_no_limit(clock: Hand) -> None:
    assert at_once(Budgets(clock, number_rate=0, pair_rate=0), lambda _: send()) == 500
    assert at_once(Budgets(clock, number_rate=80, pair_rate=0), lambda _: send(), rate=0) == 500


def test_what_an_earlier_owner_sent_counts(clock: Hand) -> None:
    """Forty were sent a minute ago, which is ten that came back since, and four now."""
    budgets = Budgets(clock, number_rate=0, pair_rate=1)
    budgets.begin(1.0)
    for ago_s in (*[60.0] * 40, *[0.0] * 4):
        budgets.note_sent("wa:1:2", ago_s=ago_s)
    assert at_once(budgets, lambda _: send()) == PAIR_BURST - 40 + 10 - 4


def test_a_number_has_its_rate_over_all_recipients_and_a_reply_counts_twice(clock: Hand) -> None:
    budgets = Budgets(clock, number_rate=80, pair_rate=1)
    burst = at_once(budgets, lambda to: send(to=str(to)))
    assert burst == 8  # of a tenth of a second
    assert budgets.take_at_once(send(number="9"), None)
    clock.seconds += 0.05
    assert at_once(budgets, lambda to: send(to=str(to))) == 4
    clock.seconds += 0.05
    assert at_once(budgets, lambda to: send(to=str(to), is_reply=True)) == 2


def test_an_account_and_a_share_of_the_partitions_say_the_rate(clock: Hand) -> None:
    """1,000 a second on a quarter of the partitions are 250: 25 at once."""
    budgets = Budgets(clock, number_rate=80, pair_rate=0)
    budgets.begin(0.25)
    assert at_once(budgets, lambda to: send(to=str(to)), rate=1000) == 25
    assert at_once(budgets, lambda to: send(number="9", to=str(to))) == 2


async def test_who_waits_for_a_number_goes_by_priority_and_then_by_order() -> None:
    budgets = Budgets(SystemClock(), number_rate=100, pair_rate=0)
    at_once(budgets, lambda _: send())
    went: list[str] = []

    async def take(name: str, priority: str) -> None:
        await budgets.take(send(priority=priority), None)
        went.append(name)

    named = [("bulk", "bulk"), ("normal", "normal"), ("first", "high"), ("second", "high"), ("urgent", "critical"), ("odd", "no such")]
    await asyncio.gather(*(take(name, priority) for name, priority in named))
    assert went == ["urgent", "first", "second", "normal", "bulk", "odd"]
    assert budgets.waiting == 0


async def test_many_who_wait_stay_within_the_rate_and_who_is_cancelled_takes_nothing() -> None:
    budgets = Budgets(SystemClock(), number_rate=200, pair_rate=0)
    began, went = time.monotonic(), []

    async def take() -> None:
        await budgets.take(send(), None)
        went.append(time.monotonic() - began)

    leaving = [asyncio.create_task(take()) for _ in range(50)]
    await asyncio.sleep(0)
    staying = [asyncio.create_task(take()) for _ in range(60)]
    await asyncio.sleep(0)
    assert 0 < budgets.waiting <= 110 - 20  # a tenth of a second's went at once
    for task in leaving:
        task.cancel()
    await asyncio.gather(*staying)
    assert budgets.waiting == 0
    for number, at in enumerate(went):
        assert number + 1 <= 20 + 200 * at + 1e-6, (number, at)
    assert went[-1] < 10  # fifty that left would have been a quarter of a second; an endless wait is what this is about


def test_what_would_wait_long_is_not_kept_in_memory(clock: Hand) -> None:
    """A recipient's: longer than allowed, or old already. A number's: longer than allowed."""
    budgets = Budgets(clock, number_rate=2, pair_rate=1)
    at_once(budgets, lambda _: send(), rate=0)
    assert not budgets.waits_long(send(), 0, old_s=0, here_s=30)
    assert budgets.waits_long(send(), 0, old_s=31, here_s=30)
    assert budgets.waits_long(send(), 0, old_s=0, here_s=5)
    other = send(number="9", to="3")
    at_once(budgets, lambda to: send(number="9", to=str(to)))
    assert not budgets.waits_long(other, None, old_s=0, here_s=30)
    assert not budgets.waits_long(other, None, old_s=1000, here_s=30)  # it is not its turn that is slow
    assert budgets.waits_long(other, None, old_s=0, here_s=0.1)


async def test_only_so_many_of_a_number_wait_in_memory() -> None:
    budgets = Budgets(SystemClock(), number_rate=1, pair_rate=0)
    at_once(budgets, lambda _: send())
    waiting = [asyncio.create_task(budgets.take(send(priority="normal"), None)) for _ in range(BEHIND_MAX)]
    await asyncio.sleep(0)
    assert budgets.waits_long(send(priority="normal"), None, old_s=0, here_s=30)
    assert not budgets.waits_long(send(priority="high"), None, old_s=0, here_s=30)  # it goes before them
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert budgets.waiting == 0


async def test_an_attempt_that_is_not_made_costs_its_recipient_nothing() -> None:
    """Cancelled while it waits for its number it gives back what it took of the pair's, and leaves nothing behind."""
    budgets = Budgets(SystemClock(), number_rate=0.1, pair_rate=1)
    at_once(budgets, lambda to: send(to=f"x{to}"))
    urgent = asyncio.create_task(budgets.take(send(to="urgent", priority="critical"), None))
    for _ in range(500):
        waiting = asyncio.create_task(budgets.take(send(priority="bulk"), None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert len(budgets._numbers["1"]._waiting) < 200
    assert budgets.waiting == 1
    urgent.cancel()
    await asyncio.gather(urgent, return_exceptions=True)
    assert at_once(budgets, lambda _: send(), rate=0) == PAIR_BURST


def test_what_is_as_in_the_beginning_is_forgotten(clock: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_MAX", 10)
    budgets = Budgets(clock, number_rate=80, pair_rate=1)
    for number in range(1_000):
        assert budgets.take_at_once(send(number=str(number)), None)
        clock.seconds += 1
    assert len(budgets._pairs) <= 20
    assert len(budgets._numbers) <= 20


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_two_senders_together_keep_to_the_rate_of_a_number(settings: Settings) -> None:
    """No three seconds of the platform's books have more than the rate and a tenth of it, and all is sent once, in order."""
    rate = 40
    async with Installation(settings, environment={"OTTLA_NUMBER_RATE": str(2 * rate)}) as installation:
        await installation.twin("sinks")
        driver = Driver(installation, Load(conversations=40, messages=6))
        await driver.play()
        await driver.answered(timeout_s=90)
        assert driver.verdict().clean, driver.verdict()
        assert len(installation.platform.books.accepted()) == 240
        # A second is for sends that were let go in time and arrived late, on a machine that is busy.
        assert most_within(installation, seconds=3) <= rate * 1.1 * (3 + 1)


def most_within(installation: Installation, *, seconds: int) -> int:
    """Return how many requests the platform got in its busiest stretch of so many seconds."""
    times = sorted(each.at for each in installation.platform.books.arrivals() if each.kind == "send")
    return max(sum(1 for other in times[number:] if other < at + 1_000 * seconds) for number, at in enumerate(times))


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_a_pause_is_not_made_up_for_when_it_ends(settings: Settings) -> None:
    """What waited while the platform had the number pause leaves at the number's rate, not all at once."""
    rate = 20
    async with Installation(settings, environment={"OTTLA_NUMBER_RATE": str(2 * rate)}) as installation:
        installation.platform.faults.turn("throttle", Fault(count=1, code=130429, retry_after_s=4))
        driver = Driver(installation, Load(conversations=80, messages=1))
        await driver.play()
        await driver.answered(timeout_s=90)
        assert driver.verdict().clean, driver.verdict()
        assert most_within(installation, seconds=2) <= rate * 1.1 * (2 + 1)


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_who_is_overtaken_again_and_again_is_planned(settings: Settings) -> None:
    """A bulk message that would have waited for half a second holds no offset for longer than it may, whoever comes before it."""
    environment = {"OTTLA_NUMBER_RATE": "4", "OTTLA_PLANNED_AFTER": "1"}
    async with Installation(settings, environment=environment) as installation:

        async def ask(number: int, priority: str) -> None:
            message = {"account": ACCOUNT, "to": f"1555000{number:04}", "type": "text", "text": {"body": f"{number}"}, "priority": priority}
            assert (await installation.send(message))[0] == 202

        async def go_before() -> None:
            for number in range(1, 1_000):
                await ask(number, "critical")
                await asyncio.sleep(0.2)

        for number in range(3):
            await ask(9_000 + number, "critical")
        await ask(0, "bulk")
        others = asyncio.create_task(go_before())
        try:
            found = await plans(settings, 1)
        finally:
            others.cancel()
        assert "bulk" in {each.send.priority for each in found}


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_a_recipient_with_too_many_waits_in_the_ledger_and_nobody_else_does(settings: Settings) -> None:
    """Sixty at a pair rate of 12 (two a second after the burst): in order, once, and what waits long does not hold the partition."""
    environment = {"OTTLA_PAIR_RATE": "12", "OTTLA_PLANNED_AFTER": "1"}
    async with Installation(settings, environment=environment) as installation:
        began = time.monotonic()
        for number in range(60):
            body = text_body(account=ACCOUNT, phone=WAITING, texts=[(f"wamid.{number}", f"{number}")], at_s=1)
            assert await installation.post(body) == 200
        assert {each.state for each in await plans(settings, 1)} == {"planned"}
        assert await installation.post(text_body(account=ACCOUNT, phone=OTHER, texts=[("wamid.other", "other")], at_s=1)) == 200
        await installation.platform.books.wait_for("accepted", 60, timeout_s=60)
        assert texts(installation, OTHER) == ["echo: other"]
        await installation.platform.books.wait_for("accepted", 61, timeout_s=60)
        assert time.monotonic() - began >= (60 - PAIR_BURST) / 2
        assert texts(installation, WAITING) == [f"echo: {number}" for number in range(60)]
        assert installation.platform.books.duplicates() == {}


@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_another_try_is_counted_too(settings: Settings) -> None:
    """The platform counts what it refuses: with one message every two seconds a send that is throttled once takes two turns."""
    async with Installation(settings, environment={"OTTLA_NUMBER_RATE": "1"}) as installation:
        installation.platform.faults.turn("error", Fault(count=2))
        for number in range(2):
            assert await installation.post(text_body(account=ACCOUNT, phone=WAITING, texts=[(f"w{number}", f"{number}")], at_s=1)) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        await wait_for_records(settings, "sent", lambda found: len(found) >= 2)
        times = [each.at for each in installation.platform.books.arrivals() if each.kind == "send"]
        assert len(times) == 4
        assert all(after - before >= 1_900 for before, after in itertools.pairwise(times)), times
