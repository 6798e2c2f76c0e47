"""Floors seen from the run: started as processes of their own, given work, and measured."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from infra.bench.figures import Slice, used
from infra.bench.floors import TOPICS
from infra.bench.floors.told import Done
from infra.bench.http_load import HttpLoad
from infra.bench.installation import Installation
from infra.bench.processes import Child, Meter
from infra.bench.users import webhooks
from infra.errors import OttlaError
from infra.kafka.connection import librdkafka_options
from infra.kafka.producer import Producer, settle
from infra.servers.state import free_ports
from infra.settings import Settings

_PRODUCED_AT_ONCE = 1_000


class ServerFloor:
    """A floor that is a server, filled with signed webhooks; an async context manager."""

    def __init__(self, name: str, installation: Installation) -> None:
        plan = installation.plan
        port = free_ports(1)[0]
        self._child = Child(
            name=f"the floor {name}",
            words=("-m", f"infra.bench.floors.{name}", str(port)),
            environment=installation.environment(),
            log=installation.settings.home / f"floor-{name}.log",
            port=port,
        )
        self._load = HttpLoad(port, connections=plan.connections)
        self._requests = webhooks(secret=installation.secret, conversations=plan.conversations)
        self._patience_s = plan.patience_s
        self._meter = Meter()

    async def __aenter__(self) -> Self:
        self._child.start()
        try:
            await self._child.ready(patience_s=self._patience_s)
        except BaseException:
            await self._child.stop()
            raise
        self._meter.add("floor", self._child.pid)
        await self._load.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._load.__aexit__()
        await self._child.stop()

    async def slice(self, seconds: float) -> Slice:
        """Fill it for so long."""
        return await filled(self._load, self._meter, self._requests, seconds=seconds)


async def filled(load: HttpLoad, meter: Meter, requests: Iterator[bytes], *, seconds: float) -> Slice:
    """Keep a server busy for so long; return what its processes used."""
    before, begun = meter.cpu_s(), time.perf_counter()
    count, _ = await load.fill(requests, seconds=seconds)
    return Slice(cpu_s=used(before, meter.cpu_s()), count=count, wall_s=time.perf_counter() - begun)


class ToldFloor:
    """A floor that does what it is told and measures itself; an async context manager. Hostile clients are told in the same way."""

    def __init__(self, module: str, words: Sequence[str], installation: Installation, *, package: str = "infra.bench.floors") -> None:
        self._module = module
        self._package = package
        self._words = words
        self._environment = installation.environment()
        self._log = installation.settings.home / f"floor-{module}.log"
        self._patience_s = installation.plan.patience_s
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"{self._package}.{self._module}",
                *self._words,
                env=self._environment,
                cwd=self._log.parent,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            await self._heard()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()  # nothing of it is kept
            await process.wait()

    @property
    def pid(self) -> int:
        """Its number; 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    async def slice(self, number: float) -> Slice:
        """Have it do as much as the number says."""
        await self.tell(number)
        return await self.told()

    async def tell(self, number: float) -> None:
        """Say how much is to be done."""
        if self._process is None or self._process.stdin is None:
            raise OttlaError(f"The floor {self._module} was not started.")
        self._process.stdin.write(f"{number}\n".encode())
        await self._process.stdin.drain()

    async def told(self) -> Slice:
        """Wait until it is done."""
        done = await self._heard()
        return Slice(cpu_s={"floor": done.cpu_s}, count=done.count, wall_s=done.wall_s)

    async def _heard(self) -> Done:
        if self._process is None or self._process.stdout is None:
            raise OttlaError(f"The floor {self._module} was not started.")
        try:
            async with asyncio.timeout(self._patience_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise OttlaError(f"The floor {self._module} did not answer within {self._patience_s:.0f} s: {self._log} may say why.") from None
        if not line:
            raise OttlaError(f"The floor {self._module} ended: {self._log} says why.")
        return msgspec.json.decode(line, type=Done)


class FaustFloor:
    """The floor of Faust: records are produced to its topic by this process, which is not counted. An async context manager."""

    def __init__(self, kind: str, installation: Installation) -> None:
        self._topic = TOPICS[kind]
        self._settings = installation.settings
        self._floor = ToldFloor("faust_agent", (kind,), installation)
        self._producer = Producer(self._settings, client_id=f"bench-{kind}")

    async def __aenter__(self) -> Self:
        await make_topic(self._settings, self._topic)
        await self._producer.start()
        try:
            await self._floor.__aenter__()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._floor.__aexit__()
        await self._producer.stop()

    async def slice(self, count: int) -> Slice:
        """Have it handle so many events."""
        await self._floor.tell(count)
        for first in range(0, count, _PRODUCED_AT_ONCE):
            numbers = range(first, min(count, first + _PRODUCED_AT_ONCE))
            await settle([self._producer.produce(self._topic, key=b"wa:1:%d" % (number % 200), value=_VALUE) for number in numbers])
        return await self._floor.told()


_VALUE = b'{"v":1,"conversation":"wa:1:15550000000","done":17,"turns":[["user","Is my order on its way?"],["agent","It is."]]}' * 4


async def make_topic(settings: Settings, name: str) -> None:
    """Make a topic of a floor, with as many partitions as ours, unless it is there; OttlaError if the broker does not."""
    topic = NewTopic(settings.topic_prefix + name, num_partitions=settings.partitions, replication_factor=1)

    def make() -> None:
        client = AdminClient(librdkafka_options(settings) | {"log_level": 2})  # it must outlive its answers
        for future in client.create_topics([topic]).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise OttlaError(f"Topic {topic.topic} cannot be made: {error.args[0].str()}.") from None

    await asyncio.to_thread(make)
