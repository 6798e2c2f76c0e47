"""One local server as a process: what is left of an earlier one, what stands in its way, and what becomes of it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra import children
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.errors import ServerError
from infra.servers import causes
from infra.servers.cassandra import CASSANDRA
from infra.servers.causes import PortTakenError
from infra.servers.kafka import KAFKA
from infra.servers.local import local_kafka, start_servers
from infra.servers.node import Node, start_node, stop_node
from infra.servers.plan import Plan
from infra.servers.state import ServerState, free_ports, read_state, state_path, write_state
from infra.settings import Settings
from tests.listening import listening

pytestmark = pytest.mark.servers


async def _start(home: Path, plan: Plan = KAFKA, *, keep_port: bool = False) -> Node:
    return await start_node(plan, home, die_with_parent=True, keep_port=keep_port)


async def _stop(node: Node, home: Path) -> None:
    await stop_node(node.plan, home)
    if node.child:
        node.child.wait()


def _run(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """Give a home whose servers are stopped whatever becomes of the test."""
    yield tmp_path
    await stop_node(KAFKA, tmp_path)
    await stop_node(CASSANDRA, tmp_path)


async def test_command_line_tells_what_it_is(home: Path) -> None:
    """The process list shows the server's main class and the home, and not hundreds of jars."""
    node = await _start(home)
    shown = " ".join(psutil.Process(node.state.pid).cmdline())
    await _stop(node, home)
    assert "kafka.Kafka" in shown
    assert str(home) in shown
    assert len(shown) < 1000


async def test_killed_server_starts_again_on_its_port(home: Path) -> None:
    """After a kill -9 the next start is a new process on the port that clients know."""
    first = await _start(home)
    assert first.child
    first.child.kill()
    first.child.wait()
    assert local_kafka(home) is None
    second = await _start(home, keep_port=True)
    await _stop(second, home)
    assert second.state.port == first.state.port
    assert second.state.pid != first.state.pid


async def test_what_cassandra_acknowledged_survives_its_kill(home: Path) -> None:
    """Killed with -9 in the middle of writes, it has after its next start every row whose write was answered."""
    node = await _start(home, CASSANDRA)
    assert node.child
    settings = Settings(home=home, cassandra=node.address, _env_file=None)
    cassandra = await Cassandra.connect(settings)
    insert, written = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES ('kept', ?)", set[str]()

    async def write_on(writer: int) -> None:
        with suppress(CassandraAwayError):
            for number in range(10_000):
                await cassandra.execute(insert, (f"{writer}-{number}",), timeout_s=2)
                written.add(f"{writer}-{number}")
                if len(written) == 1_000:
                    os.kill(node.state.pid, signal.SIGKILL)

    await asyncio.gather(*map(write_on, range(8)))
    await cassandra.close()
    node.child.wait()
    again = await _start(home, CASSANDRA, keep_port=True)
    cassandra = await Cassandra.connect(settings)
    rows = await cassandra.execute("SELECT platform_id FROM @.send_platform_ids WHERE send = 'kept' AND platform_id > ?", ("",))
    await cassandra.close()
    await _stop(again, home)
    assert len(written) >= 1_000
    assert written <= {row["platform_id"] for row in rows}


async def test_reused_pid_is_not_taken_for_the_server(home: Path) -> None:
    """A state file whose pid belongs to another process by now neither counts as running nor gets that process killed."""
    bystander = _run("sleep", "600")
    try:
        port, inner_port = free_ports(2)
        write_state(home, "kafka", ServerState(port, inner_port, pid=bystander.pid, mark="1", ready=True))
        assert local_kafka(home) is None
        assert not await stop_node(KAFKA, home)
        node = await _start(home)
        await _stop(node, home)
        assert bystander.poll() is None
        assert node.state.port == port
    finally:
        bystander.kill()
        bystander.communicate()


async def test_taken_port_is_left_for_another(home: Path) -> None:
    """When somebody listens on the remembered port, a fresh start takes another one and remembers that."""
    port, inner_port = free_ports(2)
    write_state(home, "kafka", ServerState(port, inner_port))
    with listening(port):
        node = await _start(home)
        await _stop(node, home)
    assert node.state.port != port
    remembered = read_state(home, "kafka")
    assert remembered
    assert remembered.port == node.state.port


async def test_taken_port_that_clients_know_is_refused(home: Path) -> None:
    """When clients rely on the port, a taken one is one sentence that names it."""
    port, inner_port = free_ports(2)
    write_state(home, "kafka", ServerState(port, inner_port))
    with listening(port), pytest.raises(PortTakenError, match=f"^Kafka cannot start: .* 127.0.0.1:{port}.$"):
        await _start(home, keep_port=True)


async def test_dies_with_its_starter(home: Path) -> None:
    """A server whose starter was killed with -9 ends by itself, and its data is closed."""
    program = (
        "import asyncio, sys, time; from pathlib import Path; from infra.servers.kafka import KAFKA; "
        "from infra.servers.node import start_node; "
        "asyncio.run(start_node(KAFKA, Path(sys.argv[1]), die_with_parent=True)); print('up', flush=True); time.sleep(600)"
    )
    starter = _run(sys.executable, "-c", program, str(home))
    assert starter.stdout
    assert await asyncio.to_thread(starter.stdout.readline) == b"up\n"
    state = read_state(home, "kafka")
    assert state
    assert state.kept
    starter.kill()
    starter.wait()
    starter.stdout.close()
    await asyncio.to_thread(psutil.Process(state.pid).wait, 30)
    assert not state.alive


@pytest.mark.skipif(sys.platform != "linux", reason="stops its process by /proc")
async def test_what_a_killed_starter_left_is_cleaned_up(home: Path) -> None:
    """A server that still runs though its starter is gone is stopped, and a new one started on its data."""
    left = await _start(home)
    state = read_state(home, "kafka")
    assert state
    write_state(home, "kafka", ServerState(**{**vars(state), "owner_mark": "1"}))
    node = await _start(home)
    await _stop(node, home)
    assert left.child
    assert left.child.wait() is not None
    assert node.state.pid != left.state.pid


async def test_server_whose_state_was_removed_is_found(home: Path) -> None:
    """A server that still runs though its home was wiped is stopped before another one uses the same folder, and by a stop."""
    first = await _start(home)
    state_path(home, "kafka").unlink()
    second = await _start(home)
    state_path(home, "kafka").unlink()
    assert await stop_node(KAFKA, home)
    for node in (first, second):
        assert node.child
        assert node.child.wait(10) is not None


async def test_two_starts_at_once_make_one_server(home: Path) -> None:
    """Starting twice in the same home ends with one process that both found."""
    settings = Settings(home=home, _env_file=None)
    one, two = await asyncio.gather(*(start_servers(settings, only=["kafka"], die_with_parent=True) for _ in range(2)))
    await one.stop()
    await two.stop()
    assert one.nodes[0].state.pid == two.nodes[0].state.pid
    assert one.kafka == two.kafka


async def test_damaged_kafka_is_one_sentence(home: Path) -> None:
    """Kafka data that cannot be read names the folder and what to do, and leaves nothing running."""
    await _stop(await _start(home), home)
    (home / "kafka" / "data" / "meta.properties").write_text("garbage\n")
    with pytest.raises(ServerError, match=r"^The data of Kafka in .* is damaged .*: put a copy back, or remove that folder") as said:
        await _start(home)
    assert "\n" not in str(said.value)
    assert local_kafka(home) is None


async def test_damaged_cassandra_is_one_sentence(home: Path) -> None:
    """So do Cassandra's."""
    await _stop(await _start(home, CASSANDRA), home)
    for path in (home / "cassandra" / "data" / "system_schema").glob("tables-*/*-Data.db"):
        path.write_bytes(os.urandom(2000))
    with pytest.raises(ServerError, match=r"^The data of Cassandra in .* is damaged .*: put a copy back") as said:
        await _start(home, CASSANDRA)
    assert "\n" not in str(said.value)


async def test_other_crash_is_one_sentence_with_its_last_error(home: Path) -> None:
    """A server that ends for any other reason says how it ended, its last error and which log has the rest."""
    broken = KAFKA.configure

    def configure(folder: Path, state: ServerState) -> list[str]:
        (path,) = broken(folder, state)
        with Path(path).open("a") as file:
            file.write("num.io.threads=0\n")
        return [path]

    plan = Plan(**{**vars(KAFKA), "configure": configure})
    with pytest.raises(ServerError, match=r"^Kafka ended while starting \(exit code 1, last error: .*num.io.threads.*\): .*kafka.log"):
        await _start(home, plan)


async def test_home_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    """A home that cannot be written says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"^OTTLA_HOME=.*/file cannot be used"):
        await start_servers(Settings(home=tmp_path / "file", _env_file=None), die_with_parent=True)


async def test_full_disk_is_said_before_the_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less than 200 MB of room nothing is started."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 60_000_000}))
    with pytest.raises(ServerError, match=r"^Only 60 MB are free on the disk of OTTLA_HOME=.*: the local servers need 209"):
        await _start(home)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("java.io.IOException: No space left on device", "Kafka stopped because the disk of OTTLA_HOME="),
        ("Caused by: java.net.BindException: Address already in use", "Kafka could not listen on 127.0.0.1:29092"),
        ("Error: Could not reserve enough space for object heap", "Kafka did not get the memory it needs"),
        ("java.nio.file.AccessDeniedException: /x", "Kafka may not read or write its files"),
    ],
)
def test_known_causes_are_recognised(tmp_path: Path, line: str, sentence: str) -> None:
    """What Java says of full disks, taken ports, lack of memory and permissions becomes a sentence that says what to do."""
    log = KAFKA.log(tmp_path)
    log.parent.mkdir()
    log.write_text(f"2026-11-21T07:19:54.423 [main] ERROR kafka.Kafka - Exiting\n{line}\n\tat java.base/x.Y(Z.java:1)\n")
    assert str(causes.why_not_started(KAFKA, tmp_path, 1, 29092)).startswith(sentence)


def test_information_is_not_a_cause(tmp_path: Path) -> None:
    """The command line that Cassandra logs first holds the word OutOfMemoryError, which does not mean one."""
    log = CASSANDRA.log(tmp_path)
    log.parent.mkdir()
    log.write_text("2026-11-21T07:19:52.239 [main] INFO CassandraDaemon - JVM Arguments: [-XX:+ExitOnOutOfMemoryError]\n")
    said = str(causes.why_not_started(CASSANDRA, tmp_path, -signal.SIGKILL, 1))
    assert said == f"Cassandra ended while starting (SIGKILL): {log} has the rest."


def test_unreadable_state_counts_as_none(tmp_path: Path) -> None:
    """A state file of half a line is as good as none."""
    state_path(tmp_path, "kafka").parent.mkdir()
    state_path(tmp_path, "kafka").write_text(json.dumps({"port": 1})[:-3])
    assert read_state(tmp_path, "kafka") is None


async def test_stop_is_bounded_for_who_ignores_it() -> None:
    """A process that ignores SIGTERM is killed after the patience is over."""
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    deaf = _run(sys.executable, "-c", program)
    assert deaf.stdout
    assert await asyncio.to_thread(deaf.stdout.readline) == b"deaf\n"
    deaf.stdout.close()
    await children.stop_process(deaf.pid, children.start_mark(deaf.pid) or "", patience_s=0.1)
    assert deaf.wait() == -signal.SIGKILL
