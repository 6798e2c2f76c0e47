"""Run one whole installation: servers, topics, roles; show it, keep it running, stop it in order."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import structlog

from infra.errors import OttlaError
from infra.servers.local import start_servers
from infra.servers.reach import check_servers
from infra.settings import Settings
from infra.supervisor.home import only_one, record_children, stop_leftovers
from infra.supervisor.keepers import RoleKeeper, ServerKeeper, StartRole, start_role
from infra.supervisor.late_stream import LateStream
from infra.supervisor.printing import Printer
from infra.supervisor.ready import is_ready, not_ready
from infra.supervisor.roles import Role, shared_environment, standard_roles

# After the signal, each role has until its moment to finish its work; then the servers have the rest of ten seconds. A role
# that is done earlier leaves its time to the next.
_ROLES_UNTIL_S = (2.4, 4.2, 5.6, 6.4)
_SERVERS_UNTIL_S = 9.4
_ASK_AGAIN_S = 0.1
_SAY_WHO_IS_LATE_S = 20.0
_LAST_LINES_S = 0.5


async def _create_topics(settings: Settings) -> None:
    from infra.kafka.admin import create_topics

    await create_topics(settings)


class Up:
    """One run of `ottla up`.

    `prepare` says what to do once the servers are there, and `start` how a role is started; both are for tests.
    """

    def __init__(
        self,
        settings: Settings,
        printer: Printer,
        *,
        prepare: Callable[[Settings], Awaitable[None]] = _create_topics,
        start: StartRole = start_role,
    ) -> None:
        self._settings, self._printer = settings, printer
        self._prepare, self._start_role = prepare, start
        self._home = settings.home.absolute()
        self._servers: list[ServerKeeper] = []
        self._roles: list[RoleKeeper] = []
        self._was_ready = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGTERM or Ctrl-C, then drain and stop everything that was started; OttlaError if it cannot start."""
        with only_one(self._home):
            async with self._signals():
                try:
                    await self._until_stopped(self._start())
                    await self._stop.wait()
                finally:
                    await self._drain()

    def stop(self) -> None:
        """Ask for the end; asked again, kill the roles at once."""
        if self._stop.is_set():
            for keeper in self._roles:
                keeper.kill()
        self._stop.set()

    @contextlib.asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        # A hang-up that was made to be ignored, as nohup does, stays ignored.
        numbers = [signal.SIGTERM, signal.SIGINT]
        numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Do some work, and give it up when the end is asked for."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.wait([working, stopping])

    async def _start(self) -> None:
        left = await stop_leftovers(self._home)
        if left:
            self._printer.say("warning", f"stopped what an earlier run left behind: {', '.join(left)}")
        self._check_port()
        await check_servers(self._settings)
        self._settings = await self._start_servers()
        await self._prepare(self._settings)
        roles = standard_roles(self._settings)
        self._roles = [self._keeper(role, roles) for role in roles]
        for keeper in self._roles:
            keeper.start()
        await self._announce(roles)

    def _check_port(self) -> None:
        host, port = self._settings.host, self._settings.port
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                raise OttlaError(
                    f"{host}:{port} cannot be listened on ({error.strerror}): stop what holds it, or set OTTLA_PORT to a free port."
                ) from None

    async def _start_servers(self) -> Settings:
        began = time.monotonic()
        if not (self._settings.kafka and self._settings.cassandra):
            self._printer.say("info", "starting the local servers", home=str(self._home))
        servers = await start_servers(self._settings, die_with_parent=True)
        self._servers = [ServerKeeper(node, self._home, self._printer) for node in servers.nodes]
        for keeper in self._servers:
            keeper.start()
        took_s = round(time.monotonic() - began, 1)
        self._printer.say("info", "servers ready", kafka=servers.kafka, cassandra=servers.cassandra, seconds=took_s)
        return self._settings.model_copy(update={"kafka": servers.kafka, "cassandra": servers.cassandra})

    def _keeper(self, role: Role, roles: Sequence[Role]) -> RoleKeeper:
        shared = shared_environment(self._settings, roles)
        others = ",".join(other.ready_url for other in roles if not other.is_ingress)
        others_urls = ",".join(other.base_url for other in roles if other.name in ("streams", "sinks"))

        def environment(_role: Role) -> Mapping[str, str]:
            # Only for the first readiness: later on the ingress must take webhooks whatever becomes of the others.
            waits = {"OTTLA_READY_URLS": others} if role.is_ingress and not self._was_ready else {}
            urls = {"OTTLA_ROLE_URLS": others_urls} if role.is_ingress else {}
            return {**shared, **role.environment, **waits, **urls}

        return RoleKeeper(role, environment=environment, printer=self._printer, on_change=self._record, start=self._start_role)

    def _record(self) -> None:
        with contextlib.suppress(OSError):
            record_children(self._home, [keeper.recorded for keeper in self._roles if keeper.recorded])

    async def _announce(self, roles: Sequence[Role]) -> None:
        """Wait for the readiness of all, saying now and then who is late, and say it."""
        ingress = next(role for role in roles if role.is_ingress)
        began = said = time.monotonic()
        while not await is_ready(ingress):
            if time.monotonic() - said > _SAY_WHO_IS_LATE_S:
                said = time.monotonic()
                late = ", ".join(await not_ready(roles))
                self._printer.say("warning", f"still waiting for {late or 'ingress'}", seconds=round(said - began))
            await asyncio.sleep(_ASK_AGAIN_S)
        self._was_ready = True
        where = ingress.base_url
        platform = "" if self._settings.whatsapp_api else ", simulated platform"
        self._printer.say("info", f"ready: {where} (pages; webhooks at {where}/webhooks/whatsapp{platform}; try `ottla trigger text`)")

    async def _drain(self) -> None:
        began = time.monotonic()
        if self._roles or self._servers:
            self._printer.say("info", "stopping")
        for index, keeper in enumerate(self._roles):
            await keeper.stop(until=began + _ROLES_UNTIL_S[min(index, len(_ROLES_UNTIL_S) - 1)])
        await asyncio.gather(*(server.stop(until=began + _SERVERS_UNTIL_S) for server in self._servers))
        if self._roles or self._servers:
            self._printer.say("info", "stopped", seconds=round(time.monotonic() - began, 1))


async def up(settings: Settings) -> None:
    """Run everything in this terminal until it is stopped; OttlaError with one sentence if it cannot start."""
    stream = LateStream(sys.stdout, on_broken=lambda: os.kill(os.getpid(), signal.SIGTERM))
    printer = Printer(stream, colour=sys.stdout.isatty())
    _log_through(printer, settings.log_level)
    try:
        await Up(settings, printer).run()
    finally:
        stream.drain(_LAST_LINES_S)


def _log_through(printer: Printer, level: str) -> None:
    """Let what our own process logs appear in the stream like everything else."""

    def to_stream(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        printer.say(event.pop("level"), event.pop("event"), **event)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info, to_stream],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
    )
    logging.basicConfig(handlers=[_StreamHandler(printer)], level=logging.WARNING, force=True)


class _StreamHandler(logging.Handler):
    def __init__(self, printer: Printer) -> None:
        super().__init__()
        self._printer = printer

    def emit(self, record: logging.LogRecord) -> None:
        self._printer.say(record.levelname.lower(), record.getMessage())
