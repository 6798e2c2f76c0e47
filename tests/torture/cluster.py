"""An installation of a run's own: its servers, its roles as processes, platform and model in this process, and what starts them again."""

import asyncio
import contextlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from infra.fault_points import VARIABLE
from infra.kafka.admin import create_topics
from infra.servers.cassandra import CASSANDRA
from infra.servers.jars import fetch_jars
from infra.servers.kafka import KAFKA
from infra.servers.node import start_node
from infra.servers.plan import Plan
from infra.servers.state import read_state
from infra.settings import Settings
from infra.supervisor.ready import http_status
from infra.warm import WarmProcess, start_warm
from tests.installation import Outside, free_port
from tests.kafka.replicated import plans
from tests.torture.keeper import Keeper, Say, Start
from tests.torture.progress import GROUPS
from tests.torture.proxy import SlowProxy

READY_S = 180.0
STREAMS_MAX = 4
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Worker:
    """One process of a role: `name` is its identity, `group` the consumer group it is a member of, `port` where its `/readyz` is."""

    name: str
    role: str
    group: str
    port: int
    keeper: Keeper

    @property
    def groups(self) -> tuple[str, ...]:
        """The group that it is a member of, if it is one of any."""
        return (self.group,) if self.group in GROUPS else ()

    @property
    def ready_url(self) -> str:
        """Where it says whether it can do its work."""
        return f"http://127.0.0.1:{self.port}/readyz"

    async def ready(self, *, timeout_s: float = READY_S) -> None:
        """Return once it says that it is ready; TimeoutError if that takes longer."""
        async with asyncio.timeout(timeout_s):
            while await http_status(self.ready_url) != 200:  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(_LOOK_AGAIN_S)


@dataclass
class Cluster(Outside):
    """Kafka, Cassandra, one ingress, `streams` (of at most four) workers and `sinks` of each sink; an async context manager.

    Kafka is one broker, or three (`brokers`) that replicate each other. Every worker reaches Cassandra through `cassandra_proxy`.
    `environment` goes to the roles on top of ours; `say` is told what dies; `block_s` is how long SIGUSR2 blocks a worker's event loop.
    Logs are in `home/logs`. Leaving the context kills everything; should this process be killed, the kernel does.
    """

    say: Say = print
    brokers: int = 1
    streams: int = 2
    sinks: int = 2
    block_s: float = 10.0
    environment: Mapping[str, str] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        async with self._stack:
            await self._start_servers()
            await self._start_outside()
            self.workers = {worker.name: worker for worker in self._make_workers()}
            for worker in self.wanted():
                worker.keeper.want()
            await asyncio.gather(*(worker.ready() for worker in self.wanted()))
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def of_role(self, role: str) -> list[Worker]:
        """Return the workers of a role that are to run now."""
        return [worker for worker in self.workers.values() if worker.role == role and worker.keeper.is_wanted]

    def beside(self, worker: Worker) -> list[Worker]:
        """Return the workers that take over what another one had."""
        return [each for each in self.of_role(worker.role) if each.group == worker.group and each is not worker]

    def wanted(self) -> list[Worker]:
        """Return the workers to start with: all but the streams workers that join and leave."""
        spare = {f"streams-{number}" for number in range(self.streams + 1, STREAMS_MAX + 1)}
        return [worker for worker in self.workers.values() if worker.name not in spare]

    def set_clock(self, worker: Worker, *, off_s: float) -> None:
        """Let a worker's wall clock be off by so many seconds, from now on and after its restarts."""
        path = self._words(worker.name)
        draft = path.with_suffix(".draft")
        draft.write_text(f"clock={off_s}" if off_s else "")
        draft.replace(path)

    def _words(self, name: str) -> Path:
        return self.settings.home / f"{name}.faults"

    async def _start_servers(self) -> None:
        await asyncio.to_thread(fetch_jars)
        home = self.settings.home
        brokers = plans(home, self.brokers) if self.brokers > 1 else [(KAFKA, home)]
        names = [f"kafka-{number}" for number in range(1, self.brokers + 1)] if self.brokers > 1 else ["kafka"]
        self.kafkas = [self._server(name, *broker) for name, broker in zip(names, brokers, strict=True)]
        self.cassandra = self._server("cassandra", CASSANDRA, home)
        async with asyncio.timeout(READY_S):
            for server in (*self.kafkas, self.cassandra):
                server.want()
            for server in (*self.kafkas, self.cassandra):
                await server.running()
        self.cassandra_proxy = await self._stack.enter_async_context(SlowProxy(_port(CASSANDRA, home)))
        addresses = ",".join(f"127.0.0.1:{_port(*broker)}" for broker in brokers)
        found = {"kafka": addresses, "cassandra": f"127.0.0.1:{self.cassandra_proxy.port}"}
        self.settings = self.settings.model_copy(update=found)
        await create_topics(self.settings)

    def _server(self, name: str, plan: Plan, home: Path) -> Keeper:
        async def start() -> subprocess.Popen[bytes]:
            node = await start_node(plan, home, die_with_parent=True, keep_port=True)
            assert node.child is not None
            return node.child

        return self._kept(name, start)

    def _kept(self, name: str, start: Start) -> Keeper:
        keeper = Keeper(name, start, self.say)
        self._stack.push_async_callback(keeper.close)
        return keeper

    async def _start_outside(self) -> None:
        await self.begin()
        self._stack.push_async_callback(self.finish)

    def _make_workers(self) -> list[Worker]:
        streams = [self._worker("streams", number + 1, "streams") for number in range(STREAMS_MAX)]
        # Apart, as deployments run them: what history catches up with is not in the sender's way.
        of_sinks = (("sender",), ("history", "dead-letters"))
        sinks = [self._worker("sinks", number + 1, *names) for names in of_sinks for number in range(self.sinks)]
        return [self._worker("ingress", 1, "ingress"), *streams, *sinks]

    def _worker(self, role: str, number: int, *names: str) -> Worker:
        name = f"{names[0]}-{number}"
        words = ("run", role, *(names if role == "sinks" else ()))
        port = self.port if role == "ingress" else free_port()
        environment = {
            **self.role_environment(name, port),
            "OTTLA_AI_URL": self.model.api_url,
            VARIABLE: f"file={self._words(name)} block={self.block_s}",
            **self.environment,
        }
        path = self.settings.home / "logs" / f"{name}.log"

        async def start() -> WarmProcess:
            with path.open("ab") as log:
                return await asyncio.to_thread(start_warm, words, environment=environment, output=log.fileno(), folder=self.settings.home)

        return Worker(name, role, names[0], port, self._kept(name, start))


def _port(plan: Plan, home: Path) -> int:
    state = read_state(home, plan.name)
    assert state is not None
    return state.port


def run_settings(home: Path) -> Settings:
    """Return settings of a run's own, with nothing of the person's who runs it."""
    return Settings(
        home=home,
        kafka="",
        cassandra="",
        worker="runner",
        whatsapp_app_secret=SecretStr("torture-app-secret"),
        whatsapp_verify_token=SecretStr("torture-verify-token"),
        whatsapp_token=SecretStr("torture-token"),
        admin_key=SecretStr("torture-admin-key"),
        _env_file=None,
    )
