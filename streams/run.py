"""`ottla run streams`: the Faust application in our own event loop, with uvloop, stopped by SIGTERM."""

import asyncio
import signal

import uvloop

from infra.closing import run_until
from infra.settings import Settings


def run(settings: Settings, names: tuple[str, ...]) -> None:  # noqa: ARG001  # every role is run alike; this one has no parts to name
    """Run until SIGTERM, then finish what is under way; raises what stopped the stage."""
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    from streams.app import create_app

    app = create_app(settings)
    loop = asyncio.get_running_loop()
    failed = app.failed = loop.create_future()

    def stop() -> None:
        if not failed.done():
            failed.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    crashed = asyncio.create_task(_watch(app, failed))
    try:
        await run_until(failed, app.start())
    finally:
        crashed.cancel()
        await app.stop()


async def _watch(app: object, failed: asyncio.Future[None]) -> None:
    """Turn a crash of Faust's own into our failure: its services otherwise stop and leave the process standing."""
    await app.wait_until_stopped()  # type: ignore[attr-defined]
    if not failed.done():
        reason = app.crash_reason  # type: ignore[attr-defined]
        failed.set_exception(reason or RuntimeError("Faust stopped by itself"))
