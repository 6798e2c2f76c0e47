"""`ottla up`, with fake roles on real servers: ready, kept running, stopped in order, nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra import children
from infra.servers.local import Servers
from infra.servers.state import free_ports, read_state
from infra.supervisor.home import Recorded, record_children
from tests.listening import listening
from tests.supervisor.running import Running

pytestmark = pytest.mark.servers

Start = Callable[..., Running]


@pytest.fixture(autouse=True)
def _not_under_nohup() -> Iterator[None]:
    """Let what is started here hear that its terminal went, also where these tests run under nohup, which `up` respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def start(servers: Servers, tmp_path: Path) -> Iterator[Start]:
    """Start `up` on the servers of the session; whatever it leaves is killed at the end."""
    begun: list[Running] = []

    def begin(*habits: str, home: Path = tmp_path / "home", **environment: str) -> Running:
        home.mkdir(exist_ok=True)
        running = Running(home, *habits, environment={"OTTLA_KAFKA": servers.kafka, "OTTLA_CASSANDRA": servers.cassandra, **environment})
        begun.append(running)
        return running

    yield begin
    for running in begun:
        running.close()


def _stopped(running: Running) -> None:
    assert running.stop() == 0
    assert running.left() == []


def test_says_when_all_are_ready(start: Start, servers: Servers) -> None:
    """It is ready when the ingress is, which was told to wait for all others; everybody is told the same servers."""
    running = start()
    line = running.until("ready: ")
    assert f"http://127.0.0.1:{running.port}" in line
    notes = {note["name"]: note for note in running.journal("start")}
    assert set(notes) == {"ingress", "streams", "sinks", "simulator"}
    assert len(notes["ingress"]["waits_for"]) == 3
    assert {note["kafka"] for note in notes.values()} == {servers.kafka}
    assert {note["cassandra"] for note in notes.values()} == {servers.cassandra}
    assert [notes[name]["worker"] for name in ("streams", "sinks")] == ["streams-1", "sinks-1"]
    _stopped(running)


def test_no_simulator_beside_a_real_platform(start: Start) -> None:
    """With OTTLA_WHATSAPP_API set, no platform is simulated."""
    running = start(OTTLA_WHATSAPP_API="https://graph.facebook.com/v25.0")
    running.until("ready: ")
    assert "simulator" not in {note["name"] for note in running.journal("start")}
    _stopped(running)


def test_not_ready_while_one_is_not(start: Start) -> None:
    """While one role is not ready it is not said that all are."""
    running = start("late=sinks")
    running.until("sinks begins", "ingress begins")
    _stopped(running)
    assert not any(" ready: " in line for line in running.lines)


def test_what_dies_is_started_again(start: Start) -> None:
    """A killed role is back under the same name, and it is said what died, how and when it starts again."""
    running = start()
    running.until("ready: ")
    before = running.pid_of("streams")
    os.kill(before, signal.SIGKILL)
    running.until("streams died (SIGKILL): starting it again in 0.5 s")
    running.until("streams begins")
    assert running.pid_of("streams") != before
    assert {note["worker"] for note in running.journal("start") if note["name"] == "streams"} == {"streams-1"}
    _stopped(running)


def test_a_restarted_ingress_waits_for_nobody(start: Start) -> None:
    """After the first readiness the ingress must take webhooks whatever the others do."""
    running = start()
    running.until("ready: ")
    os.kill(running.pid_of("ingress"), signal.SIGKILL)
    running.until("ingress begins")
    first, second = (note for note in running.journal("start") if note["name"] == "ingress")
    assert first["waits_for"]
    assert not second["waits_for"]
    # Where the figures of the others are it must know all the same, and nobody else does.
    assert len(first["knows"]) == 2
    assert first["knows"] == second["knows"]
    assert not any(note["knows"] for note in running.journal("start") if note["name"] != "ingress")
    _stopped(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_in_order(start: Start, number: signal.Signals) -> None:
    """Asked to stop, it stops what takes work in first and what others need last, exits with 0 and leaves no process."""
    running = start()
    running.until("ready: ")
    assert running.stop(number) == 0
    assert [note["name"] for note in running.journal("end")] == ["ingress", "streams", "sinks", "simulator"]
    assert running.left() == []


def test_stops_before_it_was_ready(start: Start) -> None:
    """Asked to stop in the middle of starting, it does."""
    running = start("late=streams")
    running.until("streams begins")
    _stopped(running)


def test_who_does_not_stop_is_killed(start: Start) -> None:
    """Roles that ignore the signal cost the ten seconds of a stop, not more, and are killed; the others still end in order."""
    running = start("deaf=ingress", "deaf=sinks")
    running.until("ready: ")
    _stopped(running)
    assert [note["name"] for note in running.journal("end")] == ["streams", "simulator"]
    assert any("ingress was still at work and is killed" in line for line in running.lines)


def test_asked_twice_it_kills_at_once(start: Start) -> None:
    """A second Ctrl-C does not wait for anybody."""
    running = start("deaf=ingress", "deaf=streams", "deaf=sinks", "deaf=simulator")
    running.until("ready: ")
    running.process.send_signal(signal.SIGINT)
    running.until("stopping")
    assert running.stop(signal.SIGINT) == 0
    assert running.journal("end") == []
    assert not any("still at work" in line for line in running.lines)
    assert running.left() == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start cleans up")
def test_killed_it_leaves_nothing(start: Start) -> None:
    """After a kill -9 of the supervisor every role ends by itself, and the next one starts well."""
    running = start()
    running.until("ready: ")
    running.process.kill()
    psutil.wait_procs(running.left(), timeout=30)
    assert running.left() == []
    again = start()
    again.until("ready: ")
    _stopped(again)


def test_what_a_killed_one_left_is_stopped(start: Start, tmp_path: Path) -> None:
    """A child that outlived its supervisor is stopped by the next one; a process that only has its number by now is not."""
    left, bystander = (subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2))
    try:
        (tmp_path / "home" / "run").mkdir(parents=True)
        mark = children.start_mark(left.pid) or ""
        record_children(tmp_path / "home", [Recorded("streams", left.pid, mark, 1), Recorded("sinks", bystander.pid, "1", 2)])
        running = start()
        running.until("stopped what an earlier run left behind: streams")
        running.until("ready: ")
        _stopped(running)
        assert left.wait(10) == -signal.SIGTERM
        assert bystander.poll() is None
    finally:
        for process in (left, bystander):
            process.kill()
            process.wait()


def test_a_second_one_is_refused(start: Start) -> None:
    """Two in one home are one too many: one sentence, exit code 1, and the first goes on."""
    first = start()
    first.until("ready: ")
    second = start()
    assert second.end() == 1
    (sentence,) = second.lines
    assert sentence.startswith(f"`ottla up` already runs in OTTLA_HOME={first.home} (process {first.process.pid})")
    assert first.process.poll() is None
    _stopped(first)


def test_taken_port_is_one_sentence(start: Start) -> None:
    """When somebody listens on the port of the ingress, nothing is started."""
    with listening() as port:
        running = start(OTTLA_PORT=str(port))
        assert running.end() == 1
    (sentence,) = running.lines
    assert sentence.startswith(f"127.0.0.1:{port} cannot be listened on (Address already in use): stop what holds it, or set")
    assert running.left() == []
    assert not running.journal_path.exists()


@pytest.mark.parametrize(("variable", "title"), [("OTTLA_KAFKA", "Kafka"), ("OTTLA_CASSANDRA", "Cassandra")])
def test_unreachable_server_is_one_sentence(start: Start, variable: str, title: str) -> None:
    """A server that is set and does not answer is one sentence within seconds, and nothing is started."""
    (port,) = free_ports(1)
    running = start(**{variable: f"127.0.0.1:{port}"})
    assert running.end() == 1
    (sentence,) = running.lines
    assert title in sentence
    assert f"127.0.0.1:{port}" in sentence
    assert running.left() == []


def test_lines_of_children_are_one_stream(start: Start) -> None:
    """A JSON line of a child comes out as time, role, level, message and values."""
    running = start()
    line = running.until("streams begins")
    _stopped(running)
    assert line.split(maxsplit=1)[1] == "streams   info    streams begins answer=42"


def test_a_killed_server_is_back_on_its_port(start: Start) -> None:
    """A local Kafka that dies is started again where the roles know it, and the roles stay; both servers stop at the end."""
    running = start(OTTLA_KAFKA="", OTTLA_CASSANDRA="")
    running.until("ready: ")
    before = read_state(running.home, "kafka")
    assert before
    os.kill(before.pid, signal.SIGKILL)
    running.until("Kafka died (SIGKILL): starting it again in 0.5 s")
    running.until("Kafka is back on")
    after = read_state(running.home, "kafka")
    assert after
    assert (after.port, after.ready) == (before.port, True)
    assert after.pid != before.pid
    _stopped(running)
    assert len(running.journal("start")) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start cleans up")
def test_killed_with_servers_it_starts_well_again(start: Start) -> None:
    """After a kill -9 with local servers, they end too, and the next start has them on their data."""
    running = start(OTTLA_KAFKA="", OTTLA_CASSANDRA="")
    running.until("ready: ")
    running.process.kill()
    again = start(OTTLA_KAFKA="", OTTLA_CASSANDRA="")
    again.until("ready: ")
    _stopped(again)


def test_servers_of_infra_up_stay(start: Start, tmp_path: Path) -> None:
    """Servers that `ottla infra up` started are used and left running, until `ottla infra down`."""
    environment = {**os.environ, "OTTLA_HOME": str(tmp_path / "home")}
    ottla = [sys.executable, "-m", "infra", "infra"]
    subprocess.run([*ottla, "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        state = read_state(tmp_path / "home", "kafka")
        assert state
        running = start(OTTLA_KAFKA="", OTTLA_CASSANDRA="")
        running.until("ready: ")
        assert running.stop() == 0
        assert {note["kafka"] for note in running.journal("start")} == {state.address}
        assert state.alive
    finally:
        down = subprocess.run([*ottla, "down"], env=environment, check=True, capture_output=True, text=True)
    assert down.stdout == "Stopped kafka and cassandra.\n"
    assert running.left() == []
