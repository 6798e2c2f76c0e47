"""The installation of a run: what it says of the servers' disks, as far as they are its own."""

from pathlib import Path

from pydantic import SecretStr

from infra.bench.installation import Installation
from infra.bench.plan import Plan
from infra.servers.cassandra import CASSANDRA
from infra.servers.kafka import KAFKA
from infra.servers.local import Servers
from infra.servers.node import Node
from infra.servers.state import ServerState
from infra.settings import Settings


def installation(home: Path, *nodes: Node) -> Installation:
    """Return an installation that is not started, on servers of this home."""
    settings = Settings(home=home, topic_prefix="b-", keyspace="b", whatsapp_app_secret=SecretStr("secret"), _env_file=None)
    return Installation(settings, Servers(home, "k:1", "c:1", nodes), names=("streams",), plan=Plan())


def test_bytes_are_those_of_its_own_topics_and_tables(tmp_path: Path) -> None:
    """Segments of the topic alone, of all partitions, under its own prefix; files of its own keyspace."""
    for name, size in {"b-raw-0/0.log": 3, "b-raw-11/5.log": 4, "b-raw-0/0.index": 9, "raw-0/0.log": 9, "b-sent-0/0.log": 9}.items():
        written(tmp_path / "kafka" / "data" / name, size)
    for name, size in {"b/messages-1/Data.db": 5, "b/messages-1/Index.db": 1, "other/messages-1/Data.db": 9}.items():
        written(tmp_path / "cassandra" / "data" / name, size)
    own = installation(tmp_path, *(Node(plan, ServerState(port=1, inner_port=2), None) for plan in (KAFKA, CASSANDRA)))
    assert own.log_bytes("raw") == 7
    assert own.history_bytes() == 6


def test_of_servers_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert installation(tmp_path).log_bytes("raw") is None
    assert installation(tmp_path).history_bytes() is None


def written(path: Path, size: int) -> None:
    """Write a file of so many bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
