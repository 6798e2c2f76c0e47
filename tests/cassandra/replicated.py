"""Several nodes that replicate each other on one machine: the local Cassandra's plan, each on a loopback address of its own."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml

from infra.servers import wire
from infra.servers.cassandra import CASSANDRA
from infra.servers.plan import Plan
from infra.servers.state import ServerState, free_ports, write_state

NODES = 3


def plans(home: Path) -> list[tuple[Plan, Path, str]]:
    """Return the plan of each node, the home it is to be started in by `start_node` with `keep_port`, and its address for clients.

    The first one is what the others ask for the cluster: start it before them.
    """
    ports = free_ports(2 * NODES)
    seed = f"127.0.0.1:{ports[1]}"
    found = []
    for number in range(NODES):
        host, port, inner_port = f"127.0.0.{number + 1}", *ports[2 * number : 2 * number + 2]
        folder = home / f"node-{number + 1}"
        write_state(folder, CASSANDRA.name, ServerState(port=port, inner_port=inner_port))
        found.append((_plan(number, host, seed), folder, f"{host}:{port}"))
    return found


def _plan(number: int, host: str, seed: str) -> Plan:
    def configure(home: Path, state: ServerState) -> Sequence[str]:
        arguments = CASSANDRA.configure(home, state)
        path = CASSANDRA.folder(home) / "cassandra.yaml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings |= {"listen_address": host, "rpc_address": host, "hinted_handoff_enabled": True}
        # Equal parts of the ring, so that nothing has to be moved as nodes come.
        settings["initial_token"] = str(-(2**63) + number * 2**64 // NODES)
        settings["seed_provider"][0]["parameters"] = [{"seeds": seed}]
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return arguments

    def jvm_options(home: Path) -> Sequence[str]:
        # What a node on its own need not wait for.
        return [*CASSANDRA.jvm_options(home), "-Dcassandra.ring_delay_ms=2000", "-Dcassandra.skip_wait_for_gossip_to_settle=2"]

    return replace(CASSANDRA, configure=configure, jvm_options=jvm_options, serves=partial(wire.cassandra_serves, host=host))
