"""The plain programs seen from the run: started, given users of their own, and measured as an installation is."""

import asyncio
import time
from contextlib import AsyncExitStack
from signal import Signals
from typing import Self

from infra.bench.figures import Slice, used
from infra.bench.floors.running import make_topic
from infra.bench.http_load import HttpLoad
from infra.bench.installation import TIMES, Installation
from infra.bench.plain import READS, TOPICS
from infra.bench.processes import Child, Meter, while_all_run
from infra.bench.users import Users
from infra.errors import OttlaError
from infra.kafka.questions import BEGINNING, END, Place, Questions, commits_of, offsets_at, places_of
from infra.retries import AwayError
from infra.servers.state import free_ports
from infra.simulator.platform import SimulatedPlatform

_WORDS = {
    "intake": ("-m", "infra.bench.plain.intake"),
    "agent": ("-m", "faust", "-A", "infra.bench.plain.agent", "worker", "--without-web", "-l", "warn"),
    "sender": ("-m", "infra.bench.plain.sender"),
    "history": ("-m", "infra.bench.plain.history"),
}
_LOOK_AGAIN_S = 0.25
_ASK_S = 5.0


class PlainPipeline:
    """The plain programs on an installation's servers, beside it, with its model; an async context manager."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._patience_s = installation.plan.patience_s
        self.meter = Meter()
        for server in ("kafka", "cassandra"):
            self.meter.pids[server] = installation.meter.pids.get(server, set())
        self._port = free_ports(1)[0]
        self.platform = SimulatedPlatform(
            webhook_url=f"http://127.0.0.1:{self._port}/webhooks/whatsapp", app_secret=installation.secret, times=TIMES
        )
        self._load = HttpLoad(self._port, connections=installation.plan.connections)
        self.users = Users(self.platform, self._load, secret=installation.secret)
        self._questions = Questions(installation.settings, timeout_s=_ASK_S)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for each in (self.platform, self._load):
                await self._stack.enter_async_context(each)
            self._stack.push_async_callback(self._questions.close)
            for topic in TOPICS:
                await make_topic(self._installation.settings, topic)
            self._children = {name: self._child(name) for name in _WORDS}
            self._stack.push_async_callback(self._stop_all)
            for name, child in self._children.items():
                child.start()
                self.meter.add(name, child.pid)
            await self._children["intake"].ready(patience_s=self._patience_s)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def kill_and_start(self, name: str, *, down_s: float) -> None:
        """Kill a program with -9 and start it again after so long; does not wait for it."""
        child = self._children[name]
        self.meter.remove(name, child.pid)
        await child.stop(Signals.SIGKILL)
        await asyncio.sleep(down_s)
        child.start()
        self.meter.add(name, child.pid)

    async def slice(self, seconds: float) -> Slice:
        """Have the users converse for so long, wait until all of it is in history; return what that took."""
        before, begun = self.meter.cpu_s(), time.perf_counter()
        conversations = self._installation.plan.conversations
        conversing = self.users.converse_for(seconds, conversations=conversations, patience_s=self._patience_s)
        try:
            times = await while_all_run(self._children, conversing)
        except TimeoutError:
            raise self._is_too_slow() from None
        wall_s = time.perf_counter() - begun
        await self.settled()
        return Slice(cpu_s=used(before, self.meter.cpu_s()), count=len(times), wall_s=wall_s)

    async def settled(self) -> None:
        """Wait until all statuses were posted and every group has committed all there is; OttlaError if that takes too long."""
        poster = self.platform.poster
        try:
            async with asyncio.timeout(self._patience_s):
                if poster is not None:
                    await poster.wait_until_idle(timeout_s=self._patience_s)
                while await self._is_behind():
                    self._check()
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise self._is_too_slow() from None

    def _is_too_slow(self) -> OttlaError:
        return OttlaError(f"The plain programs did not keep up: the logs in {self._installation.settings.home} may say why.")

    def _check(self) -> None:
        for child in self._children.values():
            child.check()

    async def _is_behind(self) -> bool:
        try:
            return await self._questions.ask(self._ask_whether_behind)
        except AwayError:
            return True

    async def _ask_whether_behind(self, client: object) -> bool:
        prefix = self._installation.settings.topic_prefix
        places = await places_of(client, [prefix + topic for topic in TOPICS])
        done: dict[tuple[str, Place], int] = {}
        for group, topics in READS.items():
            read = [place for place in places if place.topic.removeprefix(prefix) in topics]
            commits = await commits_of(client, prefix + group, read)
            done |= {(group, place): commits[place].offset if place in commits else 0 for place in read}
        begins = await offsets_at(client, dict.fromkeys(places, BEGINNING))
        ends = await offsets_at(client, dict.fromkeys(places, END))
        return any(max(offset, begins[place] or 0) < (ends[place] or 0) for (_, place), offset in done.items())

    def _child(self, name: str) -> Child:
        settings = self._installation.settings
        home = settings.home / f"plain-{name}"
        home.mkdir()
        words = (*_WORDS[name], str(self._port)) if name == "intake" else _WORDS[name]
        environment = self._installation.environment() | {"OTTLA_HOME": str(home), "OTTLA_WHATSAPP_API": self.platform.api_url}
        return Child(name=f"plain {name}", words=words, environment=environment, log=settings.home / f"plain-{name}.log", port=self._port)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(child.stop(Signals.SIGKILL) for child in self._children.values()))
