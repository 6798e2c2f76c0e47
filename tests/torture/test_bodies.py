"""20,000 generated and mutated bodies: never 5xx, no crash, memory flat, and an ordinary message is answered afterwards.

A fifth of them go to a real ingress, and from there through real streams; the others through their code in this process.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from infra.settings import Settings
from infra.simulator.webhooks import text_body
from schemas.codec import decode
from schemas.events.outbound import OutboundEvent
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import wait_for_records
from tests.torture import bodies
from tests.torture.bodies import Tally, keep, take_chunk
from tests.torture.in_process import InProcess
from tests.torture.mutants import body_of
from tests.torture.over_http import GROWTH_BYTES_MAX, post_all

COUNT, POSTED = 20_000, 4_000
SEED = secrets.randbelow(1 << 32)
PHONE = "15550009999"


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    """Whoever takes bodies in this process turns its log off."""
    usual = structlog.get_config()
    yield
    structlog.configure(**usual)


def test_a_body_of_a_seed_is_always_the_same() -> None:
    """A failing body is found again by its seed and number, alone; another seed gives others."""
    once = [body_of(7, number) for number in range(200)]
    assert [body_of(7, number) for number in reversed(range(200))] == once[::-1]
    assert [body_of(8, number) for number in range(200)] != once


def test_all_that_can_become_of_a_body_does() -> None:
    """The bodies are no mere noise: every way through the code is gone, and none of them breaks a promise."""
    print(f"seed {SEED}")  # noqa: T201  # a failing run names it
    chunk = take_chunk(SEED, POSTED, COUNT - POSTED)
    assert not chunk.failures, f"see {keep(SEED, chunk.failures)}"
    assert set(chunk.results) >= {"400", "dead-letter", "stored", "duplicate", "status", "answered"}


def test_a_body_that_breaks_a_promise_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command ends with 1, prints the seed and names the folder that holds the body and what went wrong with it."""

    async def take(_: InProcess, body: bytes) -> str:
        assert body != body_of(5, 3), "it is number three"
        return "stored"

    monkeypatch.setattr(InProcess, "take", take)
    monkeypatch.setattr(bodies, "ARTIFACTS", tmp_path)
    tally = Tally()
    tally.add(take_chunk(5, 0, 10))
    monkeypatch.setattr(bodies, "take_all", lambda **_: tally)
    report = tmp_path / "report.md"
    result = CliRunner().invoke(bodies.main, ["--seed", "5", "--count", "10", "--http", "0", "--report", str(report)])
    assert result.exit_code == 1
    assert "seed 5" in result.output
    assert "bodies --seed 5 --first 0 --count 10 --http 0" in report.read_text()
    assert "- 1 bodies broke a promise" in report.read_text()
    assert str(tmp_path / "bodies-5") in result.output
    assert (tmp_path / "bodies-5" / "3.body").read_bytes() == body_of(5, 3)
    assert "it is number three" in (tmp_path / "bodies-5" / "3.txt").read_text()


def test_a_process_that_dies_is_told_with_its_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the interpreter is a failure too: the command says how to take the bodies under way again."""
    tally = Tally(died="--first 2000 --count 2000")
    monkeypatch.setattr(bodies, "take_all", lambda **_: tally)
    result = CliRunner().invoke(bodies.main, ["--seed", "5", "--count", "10", "--http", "0"])
    assert (result.exit_code, "--first 2000 --count 2000" in result.output) == (1, True)


@pytest.mark.servers
async def test_a_real_ingress_takes_them_and_goes_on(settings: Settings) -> None:
    """Every answer is the one it must be, the processes live on in the same memory, and the next ordinary message is answered."""
    print(f"seed {SEED}")  # noqa: T201  # a failing run names it
    async with Installation(settings, roles=("ingress", "streams")) as installation:
        posted = await post_all(installation, seed=SEED, count=POSTED, progress=lambda _: None)
        assert not posted.failures, f"see {keep(SEED, posted.failures)}"
        assert posted.answers.total() == POSTED
        assert {200, 400, 401} <= set(posted.answers) <= {200, 400, 401, 413}  # one in twenty thousand is too large
        assert posted.growth_bytes < GROWTH_BYTES_MAX
        body = text_body(account=ACCOUNT, phone=PHONE, texts=[("wamid.ordinary", "hello")], at_s=1)
        assert await installation.post(body) == 200

        def answered(found: list[Any]) -> bool:
            return any(decode(record.value, OutboundEvent).to == PHONE for record in found)

        await wait_for_records(settings, "outbound-high", answered, timeout_s=180)
        for role in installation.running.values():
            assert role.process is not None
            assert role.process.poll() is None
            assert await installation.says_ready(role.port)
