"""`ottla up` judged from outside: what it answers, what it makes of kills, what it shows, how it stops and starts again.

All tests share one installation with its own servers, in the order below; each can also be run alone.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from pydantic import SecretStr

from infra.settings import Settings
from tests.driver import ACCOUNT, Driver, Load
from tests.running_up import RunningUp

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ANSWERED_S = 90.0
HISTORY_S = 60.0
PARKED_MAX = 4
MODEL_DELAY_S = 0.05


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningUp]:
    """Give a ready `ottla up`."""
    running = RunningUp(_settings(tmp_path_factory.mktemp("up")))
    await running.begin()
    try:
        await running.start()
        yield running
    finally:
        await running.end()


@pytest.fixture(autouse=True)
def _show_lines(up: RunningUp) -> Iterator[None]:
    """Let a test that fails show what `up` said meanwhile."""
    begin = up.log.stat().st_size
    yield
    print(up.log.read_bytes()[begin:].decode(errors="replace")[-8000:])  # noqa: T201  # captured, and shown for a failing test


def _settings(home: Path) -> Settings:
    return Settings(home=home, whatsapp_app_secret=SecretStr("outside-secret"), admin_key=SecretStr("outside-key"), _env_file=None)


async def test_every_message_is_answered_once_in_order_with_callback_data(up: RunningUp) -> None:
    """A burst over 64 connections with a fifth posted twice: one answer to each message, in order, with our callback data."""
    load = Load(conversations=40, messages=4, first_phone=15551000000)
    driver = Driver(up, load)
    await driver.play()
    await driver.answered(timeout_s=ANSWERED_S)
    assert driver.verdict().clean, driver.verdict()
    assert not up.platform.books.duplicates()
    await _history_is_complete(up, load, parked=set())


async def test_every_message_is_shown_with_its_statuses(up: RunningUp) -> None:
    """The HTTP interface and `ottla conv` show each message of a conversation, each answer with the statuses that came for it."""
    load = Load(conversations=1, messages=2, first_phone=15552000000)
    driver = Driver(up, load)
    await driver.play()
    await driver.answered(timeout_s=ANSWERED_S)
    await _history_is_complete(up, load, parked=set())
    phone = load.phone(0)
    for message in await up.messages(phone):
        wanted = {"sent", "delivered", "read"} if message["direction"] == "out" else set()
        assert {status["status"] for status in message["statuses"]} == wanted
    shown = await asyncio.to_thread(up.ottla, "conv", phone)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"wa:{ACCOUNT}:{phone}: 4 messages")
    for text in ("c0 m0", "c0 m1"):
        assert sum(line.rstrip().endswith(f"  {text}") for line in lines) == 1
        assert sum(f"  echo: {text}  ✓✓ read" in line for line in lines) == 1


async def test_the_doctor_finds_nothing_wrong(up: RunningUp) -> None:
    """`ottla doctor` beside a healthy installation exits with 0 and names no problem."""
    examined = await asyncio.to_thread(up.ottla, "doctor")
    assert examined.returncode == 0, examined.stdout
    assert "PROBLEM" not in examined.stdout
    assert examined.stderr == ""


async def test_killed_roles_lose_double_and_reorder_nothing(up: RunningUp) -> None:
    """Streams, then sinks, killed with -9 in the middle of a run: everything is answered once and in order, or parked and listed."""
    await _survives(up, ["run streams", "run sinks"], first_phone=15553000000)


async def test_killed_servers_lose_double_and_reorder_nothing(up: RunningUp) -> None:
    """Kafka's, then Cassandra's JVM killed with -9 in the middle of a run: the same, and history has it all in the end."""
    await _survives(up, ["kafka.Kafka", "CassandraDaemon"], first_phone=15554000000)


async def test_it_stops_cleanly_and_starts_again_on_its_data(up: RunningUp) -> None:
    """SIGTERM: exit code 0 within ten seconds and no process left; on the same home it answers again and still has its history."""
    before = Load(conversations=1, messages=2, first_phone=15555000000)
    await _answers(up, before)
    assert await up.stop() == 0, up.last_lines()
    assert [process for process in up.processes() if process.pid != psutil.Process().pid] == []
    await up.start()
    await _history_is_complete(up, before, parked=set())
    await _answers(up, Load(conversations=5, messages=2, first_phone=15556000000))


async def _answers(up: RunningUp, load: Load) -> None:
    driver = Driver(up, load)
    await driver.play()
    await driver.answered(timeout_s=ANSWERED_S)
    assert driver.verdict().clean, driver.verdict()
    await _history_is_complete(up, load, parked=set())


async def _survives(up: RunningUp, commands: list[str], *, first_phone: int) -> None:
    """Kill one process after the other at growing shares of a load, then judge."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # a failing run names it
    load = Load(conversations=60, messages=5, seed=seed, first_phone=first_phone)
    before = up.platform.books.counts["accepted"]
    up.model.delay_s = MODEL_DELAY_S
    driver = Driver(up, load)
    playing = asyncio.create_task(driver.play())
    for command, share in zip(commands, (0.2, 0.5), strict=True):
        await up.platform.books.wait_for("accepted", before + int(300 * share), timeout_s=ANSWERED_S)
        up.kill(command)
    await playing
    parked = await _answered_or_parked(up, driver)
    up.model.delay_s = 0.0
    verdict = driver.verdict()
    assert len(parked) <= PARKED_MAX
    assert sorted(verdict.lost) == sorted(parked)
    verdict.lost.clear()
    assert verdict.clean, verdict
    assert not up.platform.books.duplicates()
    await _history_is_complete(up, load, parked=parked)


async def _answered_or_parked(up: RunningUp, driver: Driver) -> set[str]:
    """Wait until each message has its answer or its answer is recorded as unknown; return the texts of the unknown ones.

    A sender that is killed may have claimed sends that had not left: nobody can know, so they are parked and listed.
    """
    try:
        async with asyncio.timeout(ANSWERED_S):
            while True:
                await driver.answered(timeout_s=1)
                missing = driver.missing()
                if all([await _is_unknown(up, phone, text) for phone, text in missing]):
                    return {text for _, text in missing}
    except TimeoutError:
        raise AssertionError(f"neither answered nor parked: {driver.missing()}") from None


async def _is_unknown(up: RunningUp, phone: str, text: str) -> bool:
    messages = await up.messages(phone)
    return any(message["text"] == text and message["status"] == "unknown" for message in messages)


async def _history_is_complete(up: RunningUp, load: Load, *, parked: set[str]) -> None:
    """Wait until history has every message and answer in order, with all that became of the answers."""
    phones = [load.phone(conversation) for conversation in range(load.conversations)]
    until = time.monotonic() + HISTORY_S
    while True:
        found = [_what_is_wrong(await up.messages(phone), load, number, parked) for number, phone in enumerate(phones)]
        wrong = {phone: what for phone, what in zip(phones, found, strict=True) if what}
        if not wrong:
            return
        assert time.monotonic() < until, wrong
        await asyncio.sleep(0.5)


def _what_is_wrong(messages: list[dict[str, object]], load: Load, conversation: int, parked: set[str]) -> str:
    texts = [load.text(conversation, number) for number in range(load.messages)]
    for direction, wanted in (("in", texts), ("out", [f"echo: {text}" for text in texts])):
        found = [message["text"] for message in messages if message["direction"] == direction]
        if found != wanted:
            return f"{direction}: {found}"
    statuses = {message["text"]: message["status"] for message in messages if message["direction"] == "out"}
    unread = {text: status for text, status in statuses.items() if status != ("unknown" if text in parked else "read")}
    return f"statuses: {unread}" if unread else ""
