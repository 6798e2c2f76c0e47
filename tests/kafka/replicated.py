"""Several brokers that replicate each other on one machine: the local Kafka's plan, with more than one voter."""

import base64
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infra.servers.kafka import KAFKA
from infra.servers.plan import Plan
from infra.servers.state import ServerState, free_ports, write_state

REPLICAS = 3


def plans(home: Path, count: int = REPLICAS) -> list[tuple[Plan, Path]]:
    """Return the plan of each broker of a cluster and the home it is to be started in, by `start_node` with `keep_port`.

    Start them at once: a broker alone has no quorum, and does not serve.
    """
    states = [ServerState(port=port, inner_port=inner) for port, inner in zip(*[iter(free_ports(2 * count))] * 2, strict=True)]
    voters = ",".join(f"{number}@127.0.0.1:{state.inner_port}" for number, state in enumerate(states, 1))
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    found = []
    for number, state in enumerate(states, 1):
        folder = home / f"broker-{number}"
        write_state(folder, KAFKA.name, state)
        found.append((_plan(number, voters, cluster), folder))
    return found


def _plan(number: int, voters: str, cluster: str) -> Plan:
    def configure(home: Path, state: ServerState) -> Sequence[str]:
        arguments = KAFKA.configure(home, state)
        with Path(arguments[0]).open("a", encoding="ascii") as file:  # of a property that is there twice the last one counts
            file.writelines(f"{name}={value}\n" for name, value in _properties(number, voters).items())
        return arguments

    def format_command(home: Path) -> Sequence[str]:
        alone = list(KAFKA.format_command(home) if KAFKA.format_command is not None else ())
        if alone:
            alone[alone.index("--cluster-id") + 1] = cluster
        return alone

    return replace(KAFKA, configure=configure, format_command=format_command)


def _properties(number: int, voters: str) -> dict[str, str | int]:
    return {
        "node.id": number,
        "controller.quorum.voters": voters,
        "default.replication.factor": REPLICAS,
        "min.insync.replicas": REPLICAS - 1,
        "offsets.topic.replication.factor": REPLICAS,
        "transaction.state.log.replication.factor": REPLICAS,
        "transaction.state.log.min.isr": REPLICAS - 1,
        "share.coordinator.state.topic.replication.factor": REPLICAS,
        "share.coordinator.state.topic.min.isr": REPLICAS - 1,
        # As it is by default, but soon: a broker that is back leads again what it led, which is one election more.
        "auto.leader.rebalance.enable": "true",
        "leader.imbalance.check.interval.seconds": 10,
    }
