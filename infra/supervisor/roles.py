"""What `ottla up` runs: each role's words for the command line, and its environment."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.servers.state import free_ports
from infra.settings import Settings

_SIMULATOR, _INGRESS = "simulator", "ingress"
_BEHIND = 5


@dataclass(frozen=True)
class Role:
    """One process to keep running: `ottla WORDS`.

    `port` is that of its `/readyz`, `environment` comes on top of what all get, and a higher `niceness` lets the others go first.
    """

    name: str
    words: Sequence[str]
    port: int
    host: str = "127.0.0.1"
    niceness: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Where its HTTP server is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def ready_url(self) -> str:
        """Where it says whether it can do its work."""
        return f"{self.base_url}/readyz"

    @property
    def is_ingress(self) -> bool:
        """Whether this is the one that tells the readiness of all."""
        return self.name == _INGRESS


def standard_roles(settings: Settings) -> list[Role]:
    """Return the roles in the order in which they are stopped: what takes work in first, what others need last."""
    streams_port, sinks_port, simulator_port = free_ports(3)
    # On one machine all share the processors, and a webhook's answer is what the platform waits for: the others step back.
    roles = [
        Role(_INGRESS, ("run", _INGRESS), settings.port, host=reachable_host(settings.host)),
        Role("streams", ("run", "streams"), streams_port, niceness=_BEHIND, environment=_identity("streams-1", streams_port)),
        Role("sinks", ("run", "sinks"), sinks_port, niceness=_BEHIND, environment=_identity("sinks-1", sinks_port)),
    ]
    if not settings.whatsapp_api:
        own = {"OTTLA_SIMULATOR_PORT": str(simulator_port), "OTTLA_WORKER": "simulator-1"}
        roles.append(Role(_SIMULATOR, ("run", _SIMULATOR), simulator_port, environment=own))
    return roles


def shared_environment(settings: Settings, roles: Sequence[Role]) -> dict[str, str]:
    """Return what all roles get: our environment, one home, the servers, and the simulated platform if there is one."""
    # Their lines come to us through a pipe, as JSON.
    environment = {name: value for name, value in os.environ.items() if name not in ("OTTLA_LOG_STYLE", "OTTLA_READY_URLS")}
    environment |= {
        "OTTLA_HOME": str(settings.home.absolute()),
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_CASSANDRA": settings.cassandra,
        "OTTLA_WORKER": "ingress-1",
        "OTTLA_SUPERVISED": "1",
        "PYTHONUNBUFFERED": "1",
    }
    for role in roles:
        if role.name == _SIMULATOR:
            environment["OTTLA_WHATSAPP_API"] = f"{role.base_url}/v25.0"
    return environment


def reachable_host(host: str) -> str:
    """Return where a client of this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def _identity(worker: str, port: int) -> dict[str, str]:
    # The same after every restart, so that the group takes it for the same member and its tables are found again.
    return {"OTTLA_WORKER": worker, "OTTLA_METRICS_PORT": str(port)}
