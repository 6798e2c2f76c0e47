"""The demo from beginning to end."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from infra.demo.check import check, is_complete
from infra.demo.conversations import Conversation, load_conversations
from infra.demo.history import Histories, read_histories
from infra.demo.installation import Installation, base_url, demo_environment, free_port, take_over
from infra.demo.page import write_page
from infra.demo.played import PlayedConversation
from infra.demo.player import Player
from infra.demo.screen import Screen
from infra.demo.summary import Summary, summarize
from infra.errors import OttlaError
from infra.settings import Settings, load_settings
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.statuses import StatusTimes

_SEED = 4
_READY_PATIENCE_S = 180.0  # a loaded machine; usually it takes 30 to 40
_STATUSES_PATIENCE_S = 20.0
_HISTORY_PATIENCE_S = 30.0
_TIMES = StatusTimes(sent_s=0.05, delivered_s=0.3, read_s=1.0, read_share=0.9)
_LIVE_SOURCES = ("irc-ubuntu", "multidogo/fastfood", "abcd-sample", "tatoeba")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the demo is to do: where its data goes, whether it stays up afterwards, how many conversations."""

    home: Path
    keep: bool = False
    count: int = 200


async def run_demo(plan: Plan, console: Console) -> bool:
    """Start an installation, play, check, show, stop. Return whether every promise was kept.

    Raises OttlaError with a sentence if the installation does not start or its API does not answer.
    """
    _stop_on_sigterm()
    screen = Screen(console)
    environment = demo_environment(os.environ, home=plan.home, platform_port=(platform_port := free_port()))
    take_over(environment, home=plan.home)
    settings = load_settings()
    platform = SimulatedPlatform(
        port=platform_port,
        webhook_url=f"{base_url(settings)}/webhooks/whatsapp",
        app_secret=settings.app_secrets[0],
        times=_TIMES,
        seed=_SEED,
    )
    async with platform, Installation(settings, environment=environment) as installation:
        with screen.step("Starting Kafka, Cassandra and Ottla: half a minute ..."):
            await installation.wait_until_ready(patience_s=_READY_PATIENCE_S)
        kept = await _play_and_check(plan, screen, platform, settings)
        if plan.keep:
            await _stay(console, settings)
        with screen.step("Stopping what was started ..."):
            await installation.stop()
    return kept


def _stop_on_sigterm() -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _play_and_check(plan: Plan, screen: Screen, platform: SimulatedPlatform, settings: Settings) -> bool:
    url = base_url(settings)
    player = Player(
        _in_order_of_show(load_conversations()[: plan.count]),
        platform=platform,
        url=f"{url}/webhooks/whatsapp",
        secret=settings.app_secrets[0],
        seed=_SEED,
        watcher=screen,
    )
    with screen.playing(player.played, live=player.played[: len(_LIVE_SOURCES)]):
        await player.play()
    with screen.step("Reading everything back over the API ..."):
        histories = await _read_back(player.played, platform, url=url, settings=settings)
    statuses = platform.poster.counts["statuses"] if platform.poster else 0
    summary = summarize(player.played, check(player.played, histories), player.times, statuses=statuses)
    screen.show_summary(summary)
    _show_page(screen, write_page(settings.home / "demo.html", summary, player.played, histories), summary)
    return summary.verdict.kept


def _in_order_of_show(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Return all of them, first those that are shown live: one with a burst of each of some sources."""
    shown: list[Conversation] = []
    for source in _LIVE_SOURCES:
        fit = [one for one in conversations if one.source.startswith(source) and one.size > len(one.bursts) and one.size <= 8]  # noqa: PLR2004
        shown += fit[:1]
    rest = [one for one in conversations if one not in shown]
    random.Random(_SEED).shuffle(rest)  # noqa: S311  # repeatable on purpose
    return shown + rest


async def _read_back(played: Sequence[PlayedConversation], platform: SimulatedPlatform, *, url: str, settings: Settings) -> Histories:
    if platform.poster is not None:
        with contextlib.suppress(TimeoutError):  # what is missing then shows in the verdict
            await platform.poster.wait_until_idle(timeout_s=_STATUSES_PATIENCE_S)
    by_key = {one.key: one for one in played}
    return await read_histories(
        list(by_key),
        url=url,
        admin_key=settings.admin_key.get_secret_value(),
        complete=lambda key, history: is_complete(by_key[key], history),
        patience_s=_HISTORY_PATIENCE_S,
    )


def _show_page(screen: Screen, path: Path, summary: Summary) -> None:
    style = "bold green" if summary.verdict.kept else "bold red"
    screen.console.print(summary.sentence, style=style, highlight=False)
    screen.console.print(f"The page: {path}", highlight=False, soft_wrap=True)


async def _stay(console: Console, settings: Settings) -> None:
    here = f"OTTLA_HOME={settings.home} OTTLA_PORT={settings.port}"
    for line in (
        f"Ottla stays up at {base_url(settings)} until Ctrl-C; its keys are in {settings.home}/secrets.json.",
        f"Try: {here} ottla trigger text --text hello",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def play_demo(plan: Plan) -> None:
    """Run the demo on this terminal. Raises OttlaError with a sentence if a promise was not kept."""
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            kept = runner.run(run_demo(plan, Console()))
    except asyncio.CancelledError:
        raise OttlaError("The demo was stopped before its end.") from None
    if not kept:
        raise OttlaError("The demo found something lost, doubled or out of order: the list above and the page say what.")
