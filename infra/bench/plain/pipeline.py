"""The plain programs seen from the run: started, given users of their own, and measured as an installation is."""

import asyncio
from signal import Signals

from infra.bench.figures import Slice
from infra.bench.floors.running import make_topic
from infra.bench.installation import Installation
from infra.bench.pipeline import Pipeline
from infra.bench.plain import READS, TOPICS
from infra.bench.processes import Child, while_all_run
from infra.errors import OttlaError
from infra.kafka.questions import BEGINNING, END, Place, Questions, commits_of, offsets_at, places_of
from infra.retries import AwayError
from infra.servers.state import free_ports

_WORDS = {
    "intake": ("-m", "infra.bench.plain.intake"),
    "agent": ("-m", "faust", "-A", "infra.bench.plain.agent", "worker", "--without-web", "-l", "warn"),
    "sender": ("-m", "infra.bench.plain.sender"),
    "history": ("-m", "infra.bench.plain.history"),
}
_LOOK_AGAIN_S = 0.25
_ASK_S = 5.0


class PlainPipeline(Pipeline):
    """The plain programs on an installation's servers, beside it, with its model; an async context manager."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(plan=installation.plan, secret=installation.secret, port=free_ports(1)[0])
        self._installation = installation
        for server in ("kafka", "cassandra"):
            self.meter.pids[server] = installation.meter.pids.get(server, set())
        self._questions = Questions(installation.settings, timeout_s=_ASK_S)

    async def _begin(self) -> None:
        self._stack.push_async_callback(self._questions.close)
        for topic in TOPICS:
            await make_topic(self._installation.settings, topic)
        self._stack.push_async_callback(self._stop_all)
        for name in _WORDS:
            child = self.children[name] = self._child(name)
            child.start()
            self.meter.add(name, child.pid)
        await self.children["intake"].ready(patience_s=self.plan.patience_s)

    async def kill_and_start(self, name: str, *, down_s: float) -> None:
        """Kill a program with -9 and start it again after so long; does not wait for it."""
        child = self.children[name]
        self.meter.remove(name, child.pid)
        await child.stop(Signals.SIGKILL)
        await asyncio.sleep(down_s)
        child.start()
        self.meter.add(name, child.pid)

    async def slice(self, seconds: float) -> tuple[Slice, list[float]]:
        """Return what a turn took, as an installation does; OttlaError if a program ends by itself, or they are too slow."""
        try:
            return await while_all_run(self.children, super().slice(seconds))
        except TimeoutError:
            raise self._is_too_slow() from None

    async def settled(self) -> None:
        """Wait until all statuses were posted and every group has committed all there is; OttlaError if that takes too long."""
        poster = self.platform.poster
        try:
            async with asyncio.timeout(self.plan.patience_s):
                if poster is not None:
                    await poster.wait_until_idle(timeout_s=self.plan.patience_s)
                while await self._is_behind():
                    self._check()
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise self._is_too_slow() from None

    def _is_too_slow(self) -> OttlaError:
        return OttlaError(f"The plain programs did not keep up: the logs in {self._installation.settings.home} may say why.")

    def _check(self) -> None:
        for child in self.children.values():
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
        words = (*_WORDS[name], str(self.port)) if name == "intake" else _WORDS[name]
        environment = self._installation.environment() | {"OTTLA_HOME": str(home), "OTTLA_WHATSAPP_API": self.platform.api_url}
        return Child(name=f"plain {name}", words=words, environment=environment, log=settings.home / f"plain-{name}.log", port=self.port)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(child.stop(Signals.SIGKILL) for child in self.children.values()))
