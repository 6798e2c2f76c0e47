"""Figures of several processes added up: those that are counted, those that are not, and roles that are away."""

import signal

import aiohttp
import pytest
from prometheus_client import Counter
from pydantic import SecretStr

from infra import role_server
from infra.role_figures import Figures, RoleFigures, samples_of
from infra.role_server import RoleServer
from infra.servers.state import free_ports
from infra.settings import Settings
from tests.listening import listening

COUNTED = Counter("test_role_figures", "Counted by the test", ["kind"])


def role(port: int, *, supervised: bool = True) -> RoleServer:
    settings = Settings(metrics_port=port, worker="streams-1", admin_key=SecretStr("a-key"), _env_file=None)
    return RoleServer(settings, ready=lambda: True, supervised=supervised)


def test_samples_are_added_up_by_the_labels_that_are_asked_for() -> None:
    figures = Figures([("a", {"stage": "x", "outcome": "1"}, 2.0), ("a", {"stage": "x", "outcome": "2"}, 3.0), ("a", {"stage": "y"}, 5.0)])
    assert figures.total("a", stage="x") == 5
    assert figures.total("a", stage="x", outcome="2") == 3
    assert figures.total("a") == 10
    assert (figures.total("b"), figures.has("b"), figures.has("a", stage="z"), figures.has("a", stage="y")) == (0, False, False, True)


@pytest.mark.parametrize("text", ["<html>not found</html>", 'a{x="y", ="z"} 1.0', "a b", "a{"])
def test_what_is_no_metrics_has_no_samples(text: str) -> None:
    assert samples_of([text, "a 1.0"]) == [("a", {}, 1.0)]


async def test_other_processes_count_too_and_one_that_is_away_is_named() -> None:
    COUNTED.labels("seen").inc(2)
    port, away = free_ports(2)
    server = role(port)
    await server.start()
    try:
        figures = await RoleFigures(f"http://127.0.0.1:{port},http://127.0.0.1:{away}").read()
    finally:
        await server.stop()
    # The role of the test is this same process: once for us, once for it.
    assert figures.total("test_role_figures_total", kind="seen") == 4
    assert figures.away == (f"http://127.0.0.1:{away}",)


async def test_what_is_no_role_counts_as_away() -> None:
    with listening() as port:
        figures = await RoleFigures(f"http://127.0.0.1:{port}").read()
    assert figures.away == (f"http://127.0.0.1:{port}",)


@pytest.mark.parametrize(
    ("supervised", "key", "restarting", "refused"),
    [
        (True, "a-key", ["streams-1"], []),
        (True, "another", [], ["streams-1: the admin key is needed"]),
        (False, "a-key", [], ["streams-1: nobody would start it again"]),
    ],
)
async def test_a_restart(monkeypatch: pytest.MonkeyPatch, supervised: bool, key: str, restarting: list[str], refused: list[str]) -> None:
    """Asked with the key, and only where somebody starts it again, a role ends as if its supervisor had told it to."""
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *words: ended.append(words))
    monkeypatch.setattr(role_server, "_ANSWERED_S", 0)
    (port,) = free_ports(1)
    server = role(port, supervised=supervised)
    await server.start()
    try:
        assert await RoleFigures(f"http://127.0.0.1:{port}").restart(key) == (restarting, refused)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/livez") as response:
            assert response.status == 200
    finally:
        await server.stop()
    assert [number for _, number in ended] == [signal.SIGTERM] * len(restarting)
