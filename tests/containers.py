"""Kafka and Cassandra for tests in generic containers of the official images, set up by their environment as the local ones by files."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

from infra.servers import wire
from infra.servers.cassandra import _settings as cassandra_settings
from infra.servers.kafka import _properties as kafka_properties
from infra.servers.local import Servers
from infra.servers.state import ServerState, free_ports

KAFKA_IMAGE, CASSANDRA_IMAGE = "apache/kafka:4.1.1", "cassandra:5.0"
VARIABLE = "OTTLA_TEST_SERVERS"
READY_S = 240.0
_ENGINE_S = 2
_ENGINE_SOCKET = "unix:///var/run/docker.sock"

Source = Literal["given", "containers", "local"]


class ContainersError(Exception):
    """Containers were asked for and cannot be had; the text says why."""


def chosen_source(*, kafka: str, cassandra: str, wanted: str, engine_answers: Callable[[], bool]) -> Source:
    """Return where tests find their servers: those that are given, else containers where an engine answers, else local ones.

    `wanted` is the value of OTTLA_TEST_SERVERS: `containers` or `local` decide it. ContainersError if that cannot be.
    """
    if wanted not in ("", "containers", "local"):
        raise ContainersError(f"{VARIABLE} is {wanted!r}: set it to containers or local, or to nothing.")
    if kafka and cassandra:
        return "given"
    if wanted == "local":
        return "local"
    if engine_answers():
        return "containers"
    if wanted:
        raise ContainersError(f"{VARIABLE} is containers and no Docker engine answers: start one.")
    return "local"


def engine_answers() -> bool:
    """Tell whether a Docker engine answers here, within seconds."""
    import docker

    if not _listens(os.environ.get("DOCKER_HOST") or _ENGINE_SOCKET):
        return False
    try:
        client = docker.from_env(timeout=_ENGINE_S)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def _listens(host: str) -> bool:
    """Tell whether somebody listens on the engine's socket; the client leaves its own one open where nobody does."""
    if not host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as engine:
        return engine.connect_ex(host.removeprefix("unix://")) == 0


@contextlib.contextmanager
def servers_in_containers(home: Path) -> Iterator[Servers]:
    """Run one broker and one node while the context lasts, on ports of loopback; ContainersError if they cannot be had."""
    from testcontainers.core.container import DockerContainer

    kafka_port, cassandra_port = free_ports(2)
    kafka = DockerContainer(KAFKA_IMAGE).with_envs(**kafka_environment(kafka_port))
    cassandra = DockerContainer(CASSANDRA_IMAGE).with_envs(**cassandra_environment())
    # `with_bind_ports` knows ports alone and would open them to everybody.
    kafka.ports["9092/tcp"] = ("127.0.0.1", kafka_port)
    cassandra.ports["9042/tcp"] = ("127.0.0.1", cassandra_port)
    with contextlib.ExitStack() as stack:
        for container in (kafka, cassandra):
            # Also one that was made and could not be started is taken away.
            stack.callback(_take_away, container)
            try:
                container.start()
            except Exception as error:  # whatever the client, the engine or the image's registry raises
                raise ContainersError(f"A container of {container.image} could not be started: {error}") from error
        asyncio.run(_both_serve(kafka_port, cassandra_port))
        yield Servers(home, f"127.0.0.1:{kafka_port}", f"127.0.0.1:{cassandra_port}")


def kafka_environment(port: int) -> dict[str, str]:
    """Return the local broker's configuration as the image takes it, for clients that come to this port of loopback."""
    own = {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": "/tmp/data",  # noqa: S108  # inside the container
    }
    properties = kafka_properties(Path("/"), ServerState(port=port, inner_port=9093)) | own
    names = {f"KAFKA_{name.upper().replace('.', '_')}": str(value) for name, value in properties.items()}
    jvm = {"KAFKA_HEAP_OPTS": "-Xms128m -Xmx320m", "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    return names | jvm


def cassandra_environment() -> dict[str, str]:
    """Return what the local node's configuration is as the image takes it: by the JVM's properties, as its file is its own."""
    local = cassandra_settings(Path("/"), ServerState(port=9042, inner_port=7000))
    settings = {name: value for name, value in local.items() if name.endswith("_timeout") or name in ("commitlog_sync", "auto_snapshot")}
    # The image's file names a period, which only its own way of writing the log may have.
    options = {f"cassandra.settings.{name}": str(value).lower() for name, value in (settings | {"commitlog_sync_period": "0ms"}).items()}
    options |= {
        "cassandra.config.allow_system_properties": "true",
        "cassandra.skip_wait_for_gossip_to_settle": "0",
        "cassandra.ring_delay_ms": "100",
    }
    words = [f"-D{name}={value}" for name, value in options.items()]
    return {
        "CASSANDRA_CLUSTER_NAME": "ottla",
        "CASSANDRA_NUM_TOKENS": "1",
        "MAX_HEAP_SIZE": "448M",
        "HEAP_NEWSIZE": "96M",
        "JVM_EXTRA_OPTS": " ".join(["-XX:TieredStopAtLevel=1", *words]),
    }


async def _both_serve(kafka_port: int, cassandra_port: int) -> None:
    try:
        async with asyncio.timeout(READY_S):
            await asyncio.gather(_serves(wire.kafka_serves, kafka_port), _serves(wire.cassandra_serves, cassandra_port))
    except TimeoutError:
        raise ContainersError(f"The servers in containers did not serve within {READY_S:.0f} s: see `docker logs`.") from None


async def _serves(ask: Callable[[int], Awaitable[bool]], port: int) -> None:
    while not await ask(port):  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.2)


def _take_away(container: object) -> None:
    with contextlib.suppress(Exception):
        container.stop()  # type: ignore[attr-defined]
