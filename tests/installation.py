"""An installation for tests: the real roles as processes on real servers, with what is around them in this process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import psutil

from infra.fault_points import VARIABLE
from infra.kafka.admin import create_topics
from infra.servers.state import free_ports
from infra.settings import Settings
from infra.simulator.books import KEPT_DEFAULT
from infra.simulator.model import SimulatedModel
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.signing import sign
from infra.warm import WarmProcess, start_warm

ROLES = ("ingress", "streams", "sinks")
# Beside a fault run in the same suite two cores are shared by some thirty processes.
READY_S = 120.0


def free_port() -> int:
    """Return the number of a loopback port that is free now, and that no outgoing connection takes while a process is being restarted."""
    return free_ports(1)[0]


@dataclass
class Role:
    """One role as a process; `start` again after `kill` keeps its identity, as a supervisor does."""

    name: str
    environment: dict[str, str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | WarmProcess | None = None

    def start(self, words: Sequence[str] = ()) -> None:
        """Start the process, as `ottla run` or with other words for Python; its log goes on in the same file."""
        with self.log.open("ab") as log:
            if not words:
                self.process = start_warm(("run", self.name), environment=self.environment, output=log.fileno())
                return
            self.process = subprocess.Popen([sys.executable, *words], env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def arm(self, words: str) -> None:
        """Give a breakable role words of `infra.fault_points`; it reads them the next time it looks. Without words: nothing breaks."""
        draft = self.faults.with_suffix(".draft")
        draft.write_text(words)
        draft.replace(self.faults)

    @property
    def faults(self) -> Path:
        """Where a breakable role's words are."""
        return self.log.with_name(f"{self.environment['OTTLA_WORKER']}.faults")

    def tell(self, number: Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self, timeout_s: float) -> int:
        """Wait for the process's end; return its exit code. subprocess.TimeoutExpired if it goes on."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, timeout_s)

    async def stopped(self, timeout_s: float) -> None:
        """Wait until the process is paused by SIGSTOP; TimeoutError if it is not."""
        assert self.process is not None
        async with asyncio.timeout(timeout_s):
            while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)

    async def end(self, number: Signals = Signals.SIGTERM, timeout_s: float = 15.0) -> int:
        """Send a signal and wait for the process's end; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, timeout_s)


@dataclass
class Outside:
    """What is around an installation: the simulated platform and model, a client, and the address the ingress is to have.

    `seed` is that of the simulated faults, `kept` how many sends and prompts are remembered.
    """

    settings: Settings
    seed: int = 1
    kept: int = KEPT_DEFAULT

    async def begin(self) -> None:
        """Start platform and model, on a free port for the ingress."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.webhook_url = f"{self.url}/webhooks/whatsapp"
        self.secret = self.settings.whatsapp_app_secret.get_secret_value().encode()
        self.platform = SimulatedPlatform(webhook_url=self.webhook_url, app_secret=self.secret, seed=self.seed, kept=self.kept)
        self.model = SimulatedModel(seed=self.seed, kept=self.kept)
        await self.platform.start()
        await self.model.start()
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))

    async def finish(self) -> None:
        """Stop platform, model and client."""
        await self.http.close()
        await self.platform.stop()
        await self.model.stop()

    def outside_environment(self) -> dict[str, str]:
        """Return an environment in which a process of ours finds this home, this platform and these secrets, and nothing else of ours."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTTLA_", "OTEL_"))}
        return environment | {
            "OTTLA_HOME": str(self.settings.home),
            "OTTLA_PORT": str(self.port),
            "OTTLA_WHATSAPP_API": self.platform.api_url,
            "OTTLA_WHATSAPP_APP_SECRET": self.settings.whatsapp_app_secret.get_secret_value(),
            "OTTLA_CANARY_INTERVAL": "0",
            "OTTLA_NUMBER_RATE": "0",
            "OTTLA_PAIR_RATE": "0",
            "OTTLA_ADMIN_KEY": self.settings.admin_key.get_secret_value(),
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }

    def role_environment(self, worker: str, port: int) -> dict[str, str]:
        """Return the environment of one role of this installation, with its stable identity and the port of its `/readyz`."""
        settings = self.settings
        return {
            **self.outside_environment(),
            "OTTLA_METRICS_PORT": str(port),
            "OTTLA_WORKER": worker,
            "OTTLA_KAFKA": settings.kafka,
            "OTTLA_CASSANDRA": settings.cassandra,
            "OTTLA_KEYSPACE": settings.keyspace,
            "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
            "OTTLA_PARTITIONS": str(settings.partitions),
            "OTTLA_WHATSAPP_VERIFY_TOKEN": settings.whatsapp_verify_token.get_secret_value(),
            "OTTLA_WHATSAPP_TOKEN": settings.whatsapp_token.get_secret_value(),
        }

    async def says_ready(self, port: int) -> bool:
        """Tell whether a role answers 200 on this port's /readyz."""
        try:
            async with self.http.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def post(self, body: bytes) -> int:
        """Post one signed webhook; return the status."""
        async with self.http.post(self.webhook_url, data=body, headers=sign(body, self.secret)) as response:
            await response.read()
            return response.status

    async def send(self, message: dict[str, Any]) -> tuple[int, Any]:
        """Ask the API for a send with the admin key; return status and body."""
        headers = {"Authorization": f"Bearer {self.settings.admin_key.get_secret_value()}"}
        async with self.http.post(f"{self.url}/v1/messages", json=message, headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def get(self, path: str) -> tuple[int, Any]:
        """Read from the API with the admin key; return status and body."""
        headers = {"Authorization": f"Bearer {self.settings.admin_key.get_secret_value()}"}
        async with self.http.get(f"{self.url}{path}", headers=headers) as response:
            return response.status, orjson.loads(await response.read())


@dataclass
class Installation(Outside):
    """Roles of one test, and what is around them; an async context manager. `environment` goes to the roles on top of ours.

    `breakable` roles obey `Role.arm`; `supervised` ones are started again whenever they end, as a supervisor does.
    """

    environment: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ROLES
    with_model: bool = True
    breakable: bool = False
    supervised: bool = False
    _supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.settings.home.mkdir(parents=True, exist_ok=True)
        await create_topics(self.settings)
        await self.begin()
        self.running = {name: self._role(name) for name in self.roles}
        if "ingress" in self.running:
            others = [f"http://127.0.0.1:{role.port}" for name, role in self.running.items() if name != "ingress"]
            self.running["ingress"].environment.setdefault("OTTLA_ROLE_URLS", ",".join(others))
        try:
            for role in self.running.values():
                role.start()
            await asyncio.gather(*(self.ready(name) for name in self.roles))
            if self.supervised:
                self._supervisor = asyncio.create_task(self._supervise(), name="supervisor")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        if error is not None:  # before they are killed: who ended by itself must show
            sys.stderr.write(self.last_words())
        await asyncio.gather(*(role.end(signal.SIGKILL) for role in self.running.values()))
        await self.finish()

    def last_words(self) -> str:
        """Return the end of each role's log, and how those that ended did."""
        words = []
        for name, role in self.running.items():
            code = role.process.poll() if role.process is not None else None
            words.append(f"--- {name}{'' if code is None else f' (ended: {code})'}\n{role.log.read_text(errors='replace')[-4000:]}\n")
        return "".join(words)

    async def twin(self, name: str) -> Role:
        """Start a second process of a role, with an identity of its own, and wait until it is ready; it runs as `NAME-2`."""
        twin = self._role(name, number=2)
        twin.start()
        self.running[f"{name}-2"] = twin
        await self.ready(f"{name}-2")
        return twin

    async def _supervise(self) -> None:
        while True:
            for role in self.running.values():
                if role.process is not None and role.process.poll() is not None:
                    role.start()
            await asyncio.sleep(0.1)

    def _role(self, name: str, number: int = 1) -> Role:
        port = self.port if name == "ingress" else free_port()
        environment = self.role_environment(f"{name}-{number}", port)
        if self.with_model:
            environment["OTTLA_AI_URL"] = self.model.api_url
        role = Role(name, environment | self.environment, port, self.settings.home / f"{name}.log")
        if self.breakable:
            role.environment.setdefault(VARIABLE, f"file={role.faults} block=10")
        return role

    async def ready(self, name: str) -> None:
        """Wait until a role says that it is ready; AssertionError if it ends or takes over two minutes."""
        role = self.running[name]
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while True:
                    assert role.process is not None
                    if not self.supervised:
                        assert role.process.poll() is None, f"{name} ended: {role.log.read_text(errors='replace')[-2000:]}"
                    if await self.says_ready(role.port):
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is not ready after {READY_S:.0f} s: {role.log.read_text(errors='replace')[-500:]}")
