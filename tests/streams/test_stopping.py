"""`ottla run streams` as a process: told to stop it ends soon, also while no broker answers."""

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.settings import Settings
from infra.simulator.webhooks import text_body
from infra.supervisor.ready import http_status
from schemas.channels import CHANNELS
from schemas.topics import INBOUND
from tests.installation import free_port
from tests.kafka.own_broker import own_broker
from tests.reading import wait_for_records

pytestmark = pytest.mark.timeout(120)

ENDED_S = 20.0


@asynccontextmanager
async def streams(settings: Settings) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run streams with these settings; yield the process and the port where it says whether it is ready."""
    port = free_port()
    environment = {
        "OTTLA_HOME": str(settings.home),
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_CASSANDRA": settings.cassandra,
        "OTTLA_PARTITIONS": str(settings.partitions),
        "OTTLA_METRICS_PORT": str(port),
        "OTTLA_WORKER": "one",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", "run", "streams", env=environment, cwd=Path(__file__).parents[2]
    )
    try:
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answers(port: int, status: int) -> None:
    """Wait until it answers so."""
    while await http_status(f"http://127.0.0.1:{port}/readyz") != status:  # noqa: ASYNC110  # another process is asked
        await asyncio.sleep(0.05)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, float]:
    """Tell it to stop; return its exit code and the seconds that took."""
    began_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        code = await process.wait()
    return code, time.monotonic() - began_at


@pytest.mark.servers
async def test_what_cannot_be_committed_holds_nobody_up(tmp_path: Path) -> None:
    """The broker goes while much is handled and not committed: it ends all the same, and what was not committed is repeated."""
    async with own_broker(tmp_path) as broker:
        own = Settings(home=tmp_path / "home", kafka=broker.address, cassandra="127.0.0.1:1", partitions=2, _env_file=None)
        await create_topics(own)
        producer = Producer(own, client_id="test")
        await producer.start()
        async with streams(own) as (process, port):
            await answers(port, 200)
            posting = asyncio.create_task(post(producer))
            await wait_for_records(own, INBOUND.name, lambda found: len(found) > 200)
            posting.cancel()
            broker.kill()
            code, seconds = await ended(process)
        await producer.stop(timeout_s=0.1)
    assert (code, seconds < ENDED_S) == (0, True)


async def post(producer: Producer) -> None:
    """Write messages of fifty people to [raw] without end, so that there is always something that was handled and not committed yet."""
    for number in itertools.count():
        phone, at_s = str(15550000000 + number % 50), int(time.time())
        body = text_body(account="1", phone=phone, texts=[(f"wamid.{number}", "hello")], at_s=at_s)
        (part,) = CHANNELS["whatsapp"].split(body, received_at_ms=at_s * 1000)
        await producer.send(part.topic, key=part.key.encode(), value=part.value)


@pytest.mark.servers
async def test_while_it_starts_and_the_broker_freezes(tmp_path: Path) -> None:
    """It waits to be let into its group, and for nothing when it is told to stop."""
    async with own_broker(tmp_path) as broker:
        own = Settings(home=tmp_path / "home", kafka=broker.address, cassandra="127.0.0.1:1", partitions=2, _env_file=None)
        await create_topics(own)
        async with streams(own) as (process, port):
            await answers(port, 503)
            broker.pause()
            code, seconds = await ended(process)
    assert (code, seconds < ENDED_S) == (0, True)
