"""The small HTTP server that every role but the ingress runs: /livez, /readyz, /metrics and /restart, on loopback unless told otherwise.

What every such process needs while it runs is here as well: its garbage is collected.
"""

import asyncio
import hmac
import os
import signal
from collections.abc import Callable

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from infra.collector import collect_often
from infra.errors import OttlaError
from infra.settings import Settings

log = structlog.get_logger()

_ANSWERED_S = 0.1


class RoleServer:
    """Serves a role's state; `ready` tells whether this process can do its work now.

    `supervised` says that somebody starts the process again when it ends (by default: that `ottla up` runs it).
    """

    def __init__(self, settings: Settings, *, ready: Callable[[], bool], supervised: bool | None = None) -> None:
        self._host = settings.metrics_host
        self._port = settings.metrics_port
        self._worker = settings.worker
        self._key = f"Bearer {settings.admin_key.get_secret_value()}".encode()
        self._supervised = "OTTLA_SUPERVISED" in os.environ if supervised is None else supervised
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self._collecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; OttlaError if the address cannot be used."""
        self._collecting = asyncio.create_task(collect_often(), name="collect garbage")
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.post("/restart", self._restart),
            ],
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.stop()
            raise OttlaError(
                f"{self._host}:{self._port} cannot be listened on ({error.strerror}): "
                "set OTTLA_METRICS_HOST to an address of this machine and OTTLA_METRICS_PORT to a free port."
            ) from None

    async def stop(self) -> None:
        """Stop listening."""
        if self._collecting is not None:
            self._collecting.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._ready()
        return web.json_response({"status": "ready" if ready else "starting"}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _restart(self, request: web.Request) -> web.Response:
        """Drain and end, so that whoever supervises starts it again: 202; 401 without the admin key, 409 if nobody would."""
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode("utf-8", "surrogateescape"), self._key):
            return web.json_response({"worker": self._worker, "detail": "the admin key is needed"}, status=401)
        if not self._supervised:
            return web.json_response({"worker": self._worker, "detail": "nobody would start it again"}, status=409)
        log.info("restarting, as asked")
        asyncio.get_running_loop().call_later(_ANSWERED_S, os.kill, os.getpid(), signal.SIGTERM)
        return web.json_response({"worker": self._worker}, status=202)
