"""The demo plays and checks: against a stand-in that keeps its promises it finds nothing, against each saboteur what it did."""

import pytest

from infra.demo.check import Verdict, check, is_complete
from infra.demo.conversations import load_conversations
from infra.demo.history import read_histories
from infra.demo.installation import free_port
from infra.demo.page import write_page
from infra.demo.player import Pace, Player, Watcher
from infra.demo.summary import summarize
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.statuses import StatusTimes
from tests.demo.stub import StubOttla

FAST = Pace(begin_within_s=0, think_s=(0, 0), patience_s=1.0, limit_s=20)
QUICK_STATUSES = StatusTimes(sent_s=0, delivered_s=0.02, read_s=0.04)


async def _play(sabotage: str = "", *, count: int = 12) -> tuple[Player, Verdict, dict[str, list[object]]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    platform = SimulatedPlatform(webhook_url=f"{url}/webhooks/whatsapp", app_secret=b"secret", times=QUICK_STATUSES, seed=1)
    async with platform, StubOttla(port=port, platform_api=platform.api_url, sabotage=sabotage):
        player = Player(
            load_conversations()[:count],
            platform=platform,
            url=f"{url}/webhooks/whatsapp",
            secret=b"secret",
            seed=1,
            watcher=Watcher(),
            pace=FAST,
        )
        await player.play()
        assert platform.poster is not None
        await platform.poster.wait_until_idle()
        by_key = {played.key: played for played in player.played}
        histories = await read_histories(
            list(by_key), url=url, admin_key="key", complete=lambda key, found: is_complete(by_key[key], found), patience_s=1.0
        )
    return player, check(player.played, histories), {key: list(found) for key, found in histories.items()}


async def test_a_pipeline_that_keeps_its_promises_passes() -> None:
    """With everything answered once, in order and written down, nothing is wrong and every count is full."""
    player, verdict, _ = await _play()
    assert verdict.problems == []
    sizes = sum(played.conversation.size for played in player.played)
    assert verdict.messages == verdict.stored == verdict.answered == verdict.in_cassandra == sizes
    assert verdict.replies_in_cassandra == verdict.delivered == verdict.read == sizes
    assert verdict.in_order == verdict.conversations == 12
    assert 0 < verdict.posted_again < sizes


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("lose", "was never answered"),
        ("send twice", "was answered 2 times"),
        ("answer duplicates", "was answered 2 times"),
        ("reorder", "came before the answer to message"),
        ("forget history", "are not in Cassandra"),
    ],
)
async def test_a_broken_promise_is_found(sabotage: str, words: str) -> None:
    """What is lost, doubled, reordered or not written is said with the conversation it happened in."""
    _, verdict, _ = await _play(sabotage)
    assert not verdict.kept
    assert any(words in problem for problem in verdict.problems), verdict.problems
    assert all(problem.startswith("wa:") for problem in verdict.problems)


async def test_an_ingress_that_refuses_gets_it_again() -> None:
    """A webhook that is not answered with 200 is posted again until it is, and the refusals are counted."""
    port = free_port()
    async with SimulatedPlatform(seed=1) as platform:
        player = Player(
            load_conversations()[:1],
            platform=platform,
            url=f"http://127.0.0.1:{port}/webhooks/whatsapp",
            secret=b"secret",
            seed=1,
            watcher=Watcher(),
            pace=Pace(begin_within_s=0, think_s=(0, 0), patience_s=1.0, limit_s=0.8),
        )
        await player.play()
    assert player.times.refused >= 1
    assert not check(player.played, {}).kept


async def test_the_page_shows_it_all_and_nothing_from_elsewhere(tmp_path: object) -> None:
    """The page has the sentence, the conversations' words escaped, and loads nothing."""
    from pathlib import Path

    player, verdict, _ = await _play(count=200)
    summary = summarize(player.played, verdict, player.times, statuses=5)
    page = write_page(Path(str(tmp_path)) / "demo.html", summary, player.played, {}).read_text()
    assert summary.sentence in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for word in ("src=", "href=", "@import", "url(h"):
        assert word not in page
