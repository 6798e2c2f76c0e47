"""An HTTP server on loopback with faults, a control endpoint, and ways to vanish that a client really feels."""

import asyncio
import os
import socket
import struct
from typing import Any, Self

import msgspec
from aiohttp import web

from infra.simulator.faults import Fault, Faults

HOST = "127.0.0.1"
_BODY_BYTES_MAX = 8 << 20
_STOP_TIMEOUT_S = 0.2
_GRACE_S = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /control takes: faults to turn on (null: off), a seed, and for how many seconds to be down altogether."""

    seed: int | None = None
    faults: dict[str, Fault | None] = {}
    down_s: float | None = None


class SimulatedServer:
    """Base of the simulated servers: `async with SimulatedPlatform(...) as platform`, or start() and stop()."""

    control_type: type[Control] = Control

    def __init__(self, *, port: int, faults: Faults, host: str = HOST) -> None:
        self.host = host
        self.port = port
        self.faults = faults
        self._runner: web.AppRunner | None = None
        self._down: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Base URL without a path, for this machine; known after start() when the port was 0."""
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen; OSError if the port is taken."""
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_routes(
            [
                web.get("/livez", _alive),
                web.get("/readyz", _alive),
                web.get("/control", self._show_control),
                web.post("/control", self._take_control),
                web.delete("/control", self._reset_control),
            ]
        )
        self.add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_TIMEOUT_S)
        await self._runner.setup()
        await self.listen()

    async def stop(self) -> None:
        """Close every connection and free the port."""
        if self._down is not None:
            self._down.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def go_down(self, *, seconds: float) -> None:
        """Be down for a while."""
        await asyncio.sleep(_GRACE_S)  # so that a request for it is still answered
        await self.stop_listening()
        await asyncio.sleep(seconds)
        await self.listen()

    async def wait_until_up(self) -> None:
        """Return when a time of being down that was asked for is over."""
        if self._down is not None:
            await self._down

    async def stop_listening(self) -> None:
        """Reset every connection and refuse new ones, as a dead host does, until listen() is called."""
        runner = self._running()
        for site in list(runner.sites):
            await site.stop()
        server = runner.server
        for connection in list(server.connections) if server is not None else []:
            reset_connection(connection.transport)

    async def listen(self) -> None:
        """Take connections (again), at the same port."""
        site = web.TCPSite(self._running(), self.host, self.port, backlog=1024, reuse_address=True)
        await site.start()
        address: tuple[str, int] = self._running().addresses[0]
        self.port = address[1]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes of what is simulated."""
        raise NotImplementedError

    def state(self) -> dict[str, object]:
        """Return what GET /control shows beside the faults."""
        return {}

    def apply(self, control: Control) -> None:
        """Do what a POST to /control asks for; ValueError with a sentence if it cannot be done."""
        self.faults.update(control.faults)
        if control.seed is not None:
            self.faults.reseed(control.seed)
        if control.down_s is not None:
            self._down = asyncio.create_task(self.go_down(seconds=control.down_s))

    def _running(self) -> web.AppRunner:
        if self._runner is None:
            raise RuntimeError("The simulated server was not started.")
        return self._runner

    async def _show_control(self, _: web.Request) -> web.Response:
        return json_response(self.faults.show() | self.state())

    async def _take_control(self, request: web.Request) -> web.Response:
        try:
            self.apply(msgspec.json.decode(await request.read(), type=self.control_type))
        except ValueError as error:  # msgspec's errors are ValueErrors too
            return json_response({"error": str(error)}, status=400)
        return await self._show_control(request)

    async def _reset_control(self, request: web.Request) -> web.Response:
        self.faults.clear()
        return await self._show_control(request)


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def json_response(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return any value as a JSON answer."""
    return web.Response(body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json")


def vanish(request: web.Request) -> web.Response:
    """Reset the request's connection and return what a handler must return; nothing of it reaches the client."""
    reset_connection(request.transport)
    return web.Response()


def reset_connection(transport: Any) -> None:
    """Close a connection so that the other side sees a reset at once, as from a host that died; None is no connection."""
    if transport is None or transport.is_closing():
        return
    descriptor = transport.get_extra_info("socket").fileno()
    # Without linger the kernel says goodbye politely, and a client could read it as an orderly end. A duplicate is used because
    # uvloop's socket object takes no options; both name the same connection.
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
