"""What is remembered of each local server between commands: its ports, and which process it is.

One small file per server in OTTLA_HOME/run. The ports stay when the server stops, so that a restart keeps them; the pid counts
only together with the process's start time, so that a later process with the same number is never taken for the server.
"""

import json
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from infra import children
from infra.errors import ServerError

# Below the range from which Linux and macOS take ports of outgoing connections, so that none of those sits on a server's port
# while the server is being restarted.
_LOWEST_PORT, _HIGHEST_PORT = 20000, 32000


@dataclass(frozen=True)
class ServerState:
    """One server's state file: ports (`port` for clients, `inner_port` for itself), pid and mark while it runs.

    `ready` is set once it answered. `owner_pid` is the process that started it and stops it; 0 when it outlives its starter.
    """

    port: int
    inner_port: int
    pid: int = 0
    mark: str = ""
    ready: bool = False
    owner_pid: int = 0
    owner_mark: str = ""

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the very process that was written down still runs."""
        return self.pid > 0 and children.is_alive(self.pid, self.mark)

    @property
    def kept(self) -> bool:
        """Whether it runs and nobody has to clean it up: it is meant to outlive its starter, or its starter lives."""
        return self.alive and (not self.owner_pid or children.is_alive(self.owner_pid, self.owner_mark))

    def stopped(self) -> "ServerState":
        """Return the same ports without a process."""
        return ServerState(port=self.port, inner_port=self.inner_port)


def state_path(home: Path, server: str) -> Path:
    """Where the state of a server is."""
    return home / "run" / f"{server}.json"


def read_state(home: Path, server: str) -> ServerState | None:
    """Return what is remembered; None if nothing is, or if it cannot be understood (then the ports are chosen anew)."""
    try:
        return ServerState(**json.loads(state_path(home, server).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(home: Path, server: str, state: ServerState) -> None:
    """Remember; a reader sees the old file or the new one, never half of it. ServerError if it cannot be written."""
    path = state_path(home, server)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ServerError(f"OTTLA_HOME={home} cannot be written: {error.strerror}.") from None


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As the servers do: without it, connections of a server just stopped would count as a taken port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            # Without listening, a port on which somebody listens with SO_REUSEADDR would pass on some systems.
            probe.listen(1)
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return different free loopback ports."""
    found: list[int] = []
    for port in random.sample(range(_LOWEST_PORT, _HIGHEST_PORT), 500):
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise ServerError(f"No free port between {_LOWEST_PORT} and {_HIGHEST_PORT} on 127.0.0.1: stop what is holding them.")
