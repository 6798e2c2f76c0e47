"""`ottla run ingress`: the ASGI application on uvicorn with uvloop and httptools."""

import signal
import socket

import structlog
import uvicorn

from infra.errors import OttlaError
from infra.http_options import UVICORN
from infra.settings import Settings
from ingress.app import create_app
from ingress.connections import Connection, connections_allowed

log = structlog.get_logger()

_DRAIN_S = 2


def run(settings: Settings, names: tuple[str, ...]) -> None:  # noqa: ARG001  # every role is run alike; this one has no parts to name
    """Serve until SIGTERM; then finish the requests under way. OttlaError if the port cannot be used."""
    listening = _listen(settings.host, settings.port)
    app = create_app(settings)
    Connection.connections_max = connections_allowed()
    config = uvicorn.Config(
        app,
        **UVICORN | {"http": Connection},
        lifespan="on",
        timeout_graceful_shutdown=_DRAIN_S,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # When it has drained, uvicorn raises the signal once more for whoever listened before: a clean end is no death by signal.
        signal.signal(number, _ended)
    server = uvicorn.Server(config)
    # Pages that are open are told nothing more, so that they do not hold up the end.
    app.state.is_leaving = lambda: server.should_exit
    server.run(sockets=[listening])


def _ended(number: int, _: object) -> None:
    log.info("drained", signal=signal.Signals(number).name)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OttlaError(f"{host}:{port} cannot be listened on ({reason}): set OTTLA_HOST and OTTLA_PORT to a free address.") from None
    listening.set_inheritable(True)
    return listening
