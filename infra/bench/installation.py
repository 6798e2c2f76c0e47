"""An installation to measure: the roles as processes, the platform and the model simulated here, where nothing is counted."""

import asyncio
import os
import time
from collections.abc import Coroutine, Mapping, Sequence
from signal import Signals
from typing import Any, TypeVar

from pydantic import SecretStr

from infra.bench.disk import bytes_of
from infra.bench.pipeline import Pipeline
from infra.bench.plan import Plan
from infra.bench.processes import Child, while_all_run
from infra.errors import OttlaError
from infra.kafka.admin import create_topics
from infra.lag.reader import LagReader
from infra.retries import AwayError
from infra.servers.cassandra import CASSANDRA
from infra.servers.kafka import KAFKA
from infra.servers.local import Servers
from infra.servers.plan import Plan as ServerPlan
from infra.servers.state import free_ports
from infra.settings import PREFIX, Settings
from infra.simulator.model import SimulatedModel

T = TypeVar("T")

ROLES: Mapping[str, Sequence[str]] = {
    "ingress": ("ingress",),
    "streams": ("streams",),
    "sender": ("sinks", "sender"),
    "history": ("sinks", "history"),
    "dead-letters": ("sinks", "dead-letters"),
}
"""Names of figures, and what is run for them: each sink in a process of its own, so that each has a figure."""

_CONNECTIONS = ("kafka", "cassandra")
_LOOK_AGAIN_S = 0.25


class Installation(Pipeline):
    """Roles on the servers, an async context manager; `names` are those of ROLES that run."""

    def __init__(self, settings: Settings, servers: Servers, *, names: Sequence[str], plan: Plan) -> None:
        port, *self._ports = free_ports(1 + len(names))
        super().__init__(plan=plan, secret=settings.app_secrets[0], port=port)
        self.settings = settings
        self._names = names
        self._servers = servers
        for node in servers.nodes:
            self.meter.add(node.plan.name, node.state.pid)
        self.model = SimulatedModel()
        self._lag = LagReader(settings)

    async def _begin(self) -> None:
        await self._stack.enter_async_context(self.model)
        self._stack.push_async_callback(self._lag.close)
        await create_topics(self.settings)
        self._stack.push_async_callback(self._stop_all)
        for name, port in zip(self._names, self._ports, strict=True):
            self._start(name, ROLES[name], self.port if name == "ingress" else port, worker=f"{name}-1")
        await self._all_ready()

    @property
    def url(self) -> str:
        """Where the ingress is."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return an environment in which a process finds this installation and no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        settings = self.settings
        return kept | {
            "OTTLA_HOME": str(settings.home),
            "OTTLA_PORT": str(self.port),
            **_connections(settings),
            "OTTLA_KEYSPACE": settings.keyspace,
            "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
            "OTTLA_PARTITIONS": str(settings.partitions),
            "OTTLA_WHATSAPP_API": self.platform.api_url,
            "OTTLA_WHATSAPP_APP_SECRET": settings.whatsapp_app_secret.get_secret_value(),
            "OTTLA_WHATSAPP_VERIFY_TOKEN": settings.whatsapp_verify_token.get_secret_value(),
            "OTTLA_WHATSAPP_TOKEN": settings.whatsapp_token.get_secret_value(),
            "OTTLA_ADMIN_KEY": settings.admin_key.get_secret_value(),
            "OTTLA_AI_URL": self.model.api_url,
            "OTTLA_CANARY_INTERVAL": "0",
            "OTTLA_NUMBER_RATE": "0",
            "OTTLA_PAIR_RATE": "0",
            "OTTLA_LOG_LEVEL": "warning",
        }

    async def add_worker(self, name: str, number: int) -> None:
        """Start one more process of a role, counted under the role's name; return when it is ready."""
        self._start(name, ROLES[name], free_ports(1)[0], worker=f"{name}-{number}")
        await self.children[f"{name}-{number}"].ready(patience_s=self.plan.patience_s)

    async def end_worker(self, name: str, number: int) -> None:
        """Stop such a process."""
        child = self.children.pop(f"{name}-{number}")
        self.meter.remove(name, child.pid)
        await child.stop()

    async def kill_and_start(self, name: str, *, down_s: float) -> None:
        """Kill a role with -9 and start it again after so long; does not wait for it."""
        await self.kill(name)
        await asyncio.sleep(down_s)
        self.start_again(name)

    async def kill(self, name: str) -> None:
        """Kill a role with -9."""
        child = self.children[f"{name}-1"]
        self.meter.remove(name, child.pid)
        await child.stop(Signals.SIGKILL)

    def start_again(self, name: str) -> None:
        """Start a role that was killed; does not wait for it."""
        child = self.children[f"{name}-1"]
        child.start()
        self.meter.add(name, child.pid)

    def log_bytes(self, topic: str) -> int | None:
        """Return the bytes of a topic's segments on the disk of the broker; None where that is not one of this home."""
        return self._bytes(KAFKA, f"{self.settings.topic_prefix}{topic}-*/*.log")

    def history_bytes(self) -> int | None:
        """Return the bytes of history's tables on the disk of Cassandra, without what it has in memory; None as above."""
        return self._bytes(CASSANDRA, f"{self.settings.keyspace}/*/*")

    def _bytes(self, server: ServerPlan, pattern: str) -> int | None:
        folders = [node.plan.folder(self._servers.home) / "data" for node in self._servers.nodes if node.plan is server]
        return bytes_of(folders[0].glob(pattern)) if folders else None

    async def while_all_run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; OttlaError as soon as a role has ended that nobody stopped, for then nothing comes any more."""
        return await while_all_run(self.children, work)

    async def settled(self) -> None:
        """Wait until all statuses were posted and every group has handled all there is; OttlaError if that takes too long."""
        poster = self.platform.poster
        deadline = time.monotonic() + self.plan.patience_s
        if poster is not None:
            try:
                await poster.wait_until_idle(timeout_s=self.plan.patience_s)
            except TimeoutError:
                raise OttlaError("The platform's statuses were not taken in time: the ingress's log may say why.") from None
        while await self._unhandled():
            if time.monotonic() > deadline:
                raise OttlaError(
                    f"{await self._unhandled()} records were not handled in time: the logs in {self.settings.home} may say why."
                )
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _unhandled(self) -> int:
        try:
            return sum(seen.lag for seen in (await self._lag.read()).values())
        except AwayError:
            return -1

    def _start(self, name: str, words: Sequence[str], port: int, *, worker: str) -> None:
        child = self.children[worker] = Child(
            name=name,
            words=("-m", "infra", "run", *words),
            environment=self.environment() | {"OTTLA_WORKER": worker, "OTTLA_METRICS_PORT": str(port)},
            log=self.settings.home / f"{worker}.log",
            port=port,
        )
        child.start()
        self.meter.add(name, child.pid)

    async def _all_ready(self) -> None:
        await asyncio.gather(*(child.ready(patience_s=self.plan.patience_s) for child in self.children.values()))

    async def _stop_all(self) -> None:
        await asyncio.gather(*(child.stop() for child in self.children.values()))


def _connections(settings: Settings) -> dict[str, str]:
    """Return the variables that say how to connect to the servers, logins and files included."""
    values = {name: getattr(settings, name) for name in Settings.model_fields if name.startswith(_CONNECTIONS)}
    plain = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()}
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in plain.items() if value not in (None, "")}
