"""ingress.splitting: large bodies come apart elsewhere, as they would have here, whatever becomes of the process that does it."""

import asyncio
import os
from collections.abc import Iterator

import psutil
import pytest

from infra.simulator.webhooks import text_body
from ingress.splitting import BATCH_BYTES, Splitting, SplittingEndedError
from schemas.channels import CHANNELS
from schemas.channels.base import BodyRefusedError
from schemas.codec import decode
from schemas.events.webhook_part import WebhookPart
from tests.driver import ACCOUNT

CHANNEL = CHANNELS["whatsapp"]
TEXT = text_body(account=ACCOUNT, phone="15550001111", texts=[(f"wamid.{number}", "hello") for number in range(300)], at_s=1)
SLOW = b'{"entry":[' + b"0," * (BATCH_BYTES // 2) + b"0]}"
"""A body that takes about a second, and is no batch any more."""
LARGER = b'{"entry":[' + b'{"a":1},' * (BATCH_BYTES // 8) + b"0]}"
"""Another one, that takes less."""


@pytest.fixture
def splitting() -> Iterator[Splitting]:
    splitting = Splitting(CHANNEL.name)
    yield splitting
    splitting.close()
    assert children() == []


def children() -> list[psutil.Process]:
    """Return the processes that split for this one."""
    ours = psutil.Process(os.getpid()).children()
    return [child for child in ours if "ingress.splitting" in child.cmdline()]


@pytest.mark.parametrize("body", [TEXT, b"[" * 50_000 + b"]" * 50_000, b"null", b'{"a":1,"a":2}', LARGER])
async def test_the_parts_are_those_of_the_channel(splitting: Splitting, body: bytes) -> None:
    assert await splitting.split(body, received_at_ms=17) == CHANNEL.split(body, received_at_ms=17)


async def test_what_is_no_json_is_refused_with_the_same_words(splitting: Splitting) -> None:
    for body in (b"", b"no json" * 10_000, b"\xff", TEXT[:-1]):
        with pytest.raises(BodyRefusedError) as here:
            CHANNEL.split(body, received_at_ms=1)
        with pytest.raises(BodyRefusedError) as there:
            await splitting.split(body, received_at_ms=1)
        assert str(there.value) == str(here.value)


async def test_a_batch_does_not_wait_for_larger_bodies_and_each_gets_its_own_parts(splitting: Splitting) -> None:
    larger = [asyncio.create_task(splitting.split(LARGER, received_at_ms=number)) for number in range(3)]
    batches = [asyncio.create_task(splitting.split(TEXT, received_at_ms=number)) for number in range(3)]
    assert await asyncio.gather(*batches) == [CHANNEL.split(TEXT, received_at_ms=number) for number in range(3)]
    assert not larger[2].done()
    assert [decode(part.value, WebhookPart).received_at for (part,) in await asyncio.gather(*larger)] == [0, 1, 2]


async def test_a_process_that_is_killed_leaves_its_body_unanswered_and_is_started_again(splitting: Splitting) -> None:
    """Nothing of the body is stored: the platform sends it again."""
    await splitting.split(b"[" + b" " * BATCH_BYTES + b"]", received_at_ms=1)
    (child,) = children()
    waiting = asyncio.create_task(splitting.split(SLOW, received_at_ms=1))
    behind = asyncio.create_task(splitting.split(LARGER, received_at_ms=2))
    begun = child.cpu_times().user
    while child.cpu_times().user < begun + 0.1:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)
    child.kill()
    with pytest.raises(SplittingEndedError):
        await waiting
    assert len(await behind) == 1


async def test_closing_ends_what_is_under_way() -> None:
    splitting = Splitting(CHANNEL.name)
    await splitting.split(TEXT, received_at_ms=1)
    waiting = asyncio.create_task(splitting.split(SLOW, received_at_ms=1))
    while len(children()) < 2:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)
    splitting.close()
    with pytest.raises(SplittingEndedError):
        await waiting
    assert children() == []


async def test_nothing_is_started_before_it_is_needed(splitting: Splitting) -> None:
    assert children() == []
    await splitting.split(TEXT, received_at_ms=1)
    assert len(children()) == 1


async def test_a_process_without_a_body_ends_and_gives_its_memory_back() -> None:
    splitting = Splitting(CHANNEL.name, idle_s=0.1)
    try:
        bodies = [asyncio.create_task(splitting.split(body, received_at_ms=1)) for body in (SLOW, LARGER, TEXT)]
        await bodies[2]
        async with asyncio.timeout(20):
            while splitting._batches._process is not None:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        await asyncio.gather(*bodies)  # while there are bodies it goes on
        async with asyncio.timeout(20):
            while splitting._batches._process or splitting._larger._process:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        assert children() == []
        assert await splitting.split(TEXT, received_at_ms=17) == CHANNEL.split(TEXT, received_at_ms=17)
    finally:
        splitting.close()


async def test_the_process_ends_with_the_one_that_started_it(splitting: Splitting) -> None:
    """Also in the middle of a body, and though nobody told it: its input ends."""
    await splitting.split(TEXT, received_at_ms=1)
    (child,) = children()
    process = splitting._batches._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert not child.is_running()
