"""A run: servers and roles of its own, scenario after scenario, then nothing of it is left."""

import asyncio
import itertools
import os
import platform
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from infra.bench.figures import Result
from infra.bench.installation import ROLES, Installation
from infra.bench.leftovers import remove_leftovers
from infra.bench.plan import Plan
from infra.bench.scenarios import SCENARIOS, Scenario
from infra.errors import OttlaError, UsageError
from infra.servers.local import Servers, start_servers
from infra.settings import Settings

Progress = Callable[[str, int, int], None]

# As the official images have them: the local servers' own options are for installations that live for minutes.
_COMPILED_FULLY = ("-XX:TieredStopAtLevel=4",)


def chosen(names: Sequence[str]) -> list[Scenario]:
    """Return the named scenarios in the order in which they are played; without a name all but those that want theirs said.

    UsageError for an unknown one.
    """
    known = [scenario.name for scenario in SCENARIOS]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no scenario {name!r}: choose from {', '.join(known)}.")
    return [scenario for scenario in SCENARIOS if scenario.name in names or not (names or scenario.only_if_named)]


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load before": " ".join(f"{each:.1f}" for each in os.getloadavg()),
    }


async def run_bench(settings: Settings, scenarios: Sequence[Scenario], plan: Plan, progress: Progress) -> list[Result]:
    """Play the scenarios and return what they found, in their order.

    Servers that `settings` name are used and not counted; else those of `settings.home` are, which are started for this run, and forgotten
    with it, unless they run. Raises OttlaError with a sentence if something does not start or does not keep up.
    """
    _stop_on_sigterm()
    servers = await start_servers(settings, die_with_parent=True, jvm_options=_COMPILED_FULLY if plan.warm_up_messages else ())
    home = settings.home.absolute() / f"run-{secrets.token_hex(4)}"
    try:
        results: list[Result] = []
        if plan.warm_up_messages:
            await _warm_up(_own(settings, servers, home, 0), servers, plan, progress)
        for number, (_, group) in enumerate(itertools.groupby(scenarios, key=lambda each: each.roles), 1):
            results += await _play(_own(settings, servers, home, number), servers, list(group), plan, progress)
    except OttlaError as error:
        raise type(error)(f"{str(error).rstrip('.')}. What it wrote is in {home}.") from error
    finally:
        await servers.stop()
        for node in servers.nodes:
            if node.child is not None:
                shutil.rmtree(node.plan.folder(settings.home.absolute()), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    return results


async def _warm_up(settings: Settings, servers: Servers, plan: Plan, progress: Progress) -> None:
    """Have messages go the whole way until the servers' compilers have seen enough of it."""
    done = 0
    async with _installed(settings, servers, tuple(ROLES), plan) as installation:
        while done < plan.warm_up_messages:
            progress("warm-up", done, plan.warm_up_messages)
            done += (await installation.while_all_run(installation.slice(plan.seconds)))[0].count
    progress("warm-up", plan.warm_up_messages, plan.warm_up_messages)


async def _play(settings: Settings, servers: Servers, scenarios: Sequence[Scenario], plan: Plan, progress: Progress) -> list[Result]:
    async with _installed(settings, servers, scenarios[0].roles, plan) as installation:
        return [await installation.while_all_run(scenario.play(installation, partial(progress, scenario.name))) for scenario in scenarios]


@asynccontextmanager
async def _installed(settings: Settings, servers: Servers, names: Sequence[str], plan: Plan) -> AsyncIterator[Installation]:
    """Yield an installation that nothing is left of where servers go on without us."""
    try:
        async with Installation(settings, servers, names=names, plan=plan) as installation:
            yield installation
    finally:
        if not servers.nodes or not all(node.child for node in servers.nodes):
            await remove_leftovers(settings)


def _own(settings: Settings, servers: Servers, home: Path, number: int) -> Settings:
    """Return settings with topics, keyspace and home that nobody else has."""
    own = f"bench{secrets.token_hex(4)}"
    folder = home / f"installation-{number}"
    folder.mkdir(parents=True)
    changes: Mapping[str, object] = {
        "home": folder,
        "kafka": servers.kafka,
        "cassandra": servers.cassandra,
        "topic_prefix": f"{own}-",
        "keyspace": own,
    }
    return settings.model_copy(update=dict(changes))


def _stop_on_sigterm() -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
