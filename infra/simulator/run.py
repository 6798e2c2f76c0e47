"""`ottla run simulator`: the simulated platform as a process, on 127.0.0.1:$OTTLA_SIMULATOR_PORT.

$OTTLA_SIMULATOR_HOST lets it listen elsewhere, as in a container of its own.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import msgspec
import structlog

from infra.settings import Settings, SettingsError
from infra.simulator.platform import PlatformControl, SimulatedPlatform
from infra.simulator.server import HOST

PORT_DEFAULT = 8025
_EVERYWHERE = {"0.0.0.0", "::", ""}


def run(settings: Settings, names: Sequence[str]) -> None:
    """Run until SIGTERM or Ctrl-C. Faults to start with are read from OTTLA_SIMULATOR_FAULTS, JSON as POST /control takes it.

    Raises SettingsError with one sentence for a port or faults that cannot be used.
    """
    if names:
        raise SettingsError(f"The simulator has no parts, so `run simulator {names[0]}` cannot be done: leave the name out.")
    platform = _platform(settings)
    if sys.platform == "win32":
        asyncio.run(_serve(platform))
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(platform))


def _platform(settings: Settings) -> SimulatedPlatform:
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    control = _start_control(os.environ.get("OTTLA_SIMULATOR_FAULTS") or "{}")
    platform = SimulatedPlatform(
        host=os.environ.get("OTTLA_SIMULATOR_HOST") or HOST,
        port=_port(os.environ.get("OTTLA_SIMULATOR_PORT") or str(PORT_DEFAULT)),
        webhook_url=f"http://{host}:{settings.port}/webhooks/whatsapp",
        app_secret=settings.app_secrets[0],
        seed=control.seed,
        times=control.statuses,
    )
    try:
        platform.faults.update(control.faults)
    except ValueError as error:
        raise SettingsError(f"OTTLA_SIMULATOR_FAULTS cannot be used: {error}") from None
    return platform


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:  # noqa: PLR2004
        raise SettingsError(f"OTTLA_SIMULATOR_PORT={text!r} is not a port: use a number up to 65535.")
    return int(text)


def _start_control(text: str) -> PlatformControl:
    try:
        return msgspec.json.decode(text, type=PlatformControl)
    except ValueError as error:
        raise SettingsError(f"OTTLA_SIMULATOR_FAULTS cannot be used: {error}.") from None


async def _serve(platform: SimulatedPlatform) -> None:
    try:
        await platform.start()
    except OSError as error:
        raise SettingsError(f"Port {platform.port} is not free for the simulator ({error.strerror}): set OTTLA_SIMULATOR_PORT.") from None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    structlog.get_logger().info("simulator ready", url=platform.api_url, control=f"{platform.url}/control", seed=platform.faults.seed)
    try:
        await stop.wait()
    finally:
        await platform.stop()
