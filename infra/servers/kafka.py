"""How the local Kafka is configured: one node that is broker and controller, for one machine and little memory."""

import base64
import uuid
from collections.abc import Sequence
from pathlib import Path

from infra.servers import wire
from infra.servers.plan import Plan
from infra.servers.state import ServerState

# The largest record of any topic is 6 MiB (dead letters); batch and headers come on top.
_LARGEST_BATCH_BYTES = 6 * 1024 * 1024 + 64 * 1024

_TITLE, _NAME = "Kafka", "kafka"


def _properties(folder: Path, state: ServerState) -> dict[str, str | int]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{state.inner_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{state.port},CONTROLLER://127.0.0.1:{state.inner_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{state.port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": (folder / "data").as_posix(),
        # A typing error in a topic's name must not become a topic with wrong partitions.
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # The defaults of 50 partitions each are memory and files for nothing on one node.
        "offsets.topic.num.partitions": 8,
        # What a coordinator has to read before it answers; by default nothing is compacted away before 100 MiB are full, and Kafka 4.1.1
        # does not get over an election that comes while it still reads (infra/decisions/0007-claims.md).
        "offsets.topic.segment.bytes": 1024 * 1024,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.num.partitions": 1,
        "message.max.bytes": _LARGEST_BATCH_BYTES,
        "replica.fetch.max.bytes": _LARGEST_BATCH_BYTES,
        "socket.request.max.bytes": 32 * 1024 * 1024,
        "unclean.leader.election.enable": "false",
        "auto.leader.rebalance.enable": "false",
        # A member that joins gets its partitions now, and one that died is missed after its own short timeout (6 s).
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # Each offset commit waits this long for others; 5 by default, which is most of a claim's time.
        "group.coordinator.append.linger.ms": 1,
        # After a kill the node is not admitted again before its old session has ended; 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # No-op records twice a second only tell followers that the leader lives, and there are none.
        "metadata.max.idle.interval.ms": 5000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
        # 128 MiB of the heap by default.
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        "log.index.size.max.bytes": 2 * 1024 * 1024,
    }


def _configure(home: Path, state: ServerState) -> Sequence[str]:
    folder = home / _NAME
    path = folder / "server.properties"
    lines = (f"{name}={_escaped(str(value))}\n" for name, value in _properties(folder, state).items())
    path.write_text("".join(lines), encoding="ascii")
    return [str(path)]


def _escaped(value: str) -> str:
    """Escape for a Java properties file, which is read as Latin 1."""
    plain = value.replace("\\", "\\\\")
    return "".join(part if part.isascii() else "".join(f"\\u{unit:04x}" for unit in _utf16(part)) for part in plain)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2)]


def _jvm_options(home: Path) -> Sequence[str]:
    return [
        "-Xms128m",
        "-Xmx320m",
        "-XX:MaxDirectMemorySize=96m",
        # On two cores that everything shares, compiling little is worth more than peak speed: a record costs 37 µs of CPU
        # among the first 60,000 (98 with the full compiler), and 27 after 200,000 (17 with it).
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={home / _NAME / 'tmp'}",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.BrokerServer=info",
    ]


def _format_command(home: Path) -> Sequence[str]:
    """Return how to format the storage, nothing if it is formatted: the tool writes this file last."""
    if (home / _NAME / "data" / "meta.properties").exists():
        return []
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    return ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster, "--config"]


KAFKA = Plan(
    name=_NAME,
    title=_TITLE,
    main_class="kafka.Kafka",
    configure=_configure,
    jvm_options=_jvm_options,
    serves=wire.kafka_serves,
    format_command=_format_command,
)
