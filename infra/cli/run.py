"""`ottla run ROLE`: one role as a process, as a deployment runs it."""

import asyncio
import importlib
import os

import click

from infra.collector import tune_collector
from infra.errors import NotFoundError
from infra.log import configure_logging
from infra.servers.address import resolve_servers
from infra.servers.reach import check_servers
from infra.settings import load_settings
from infra.tracing import start_tracing, stop_tracing

# By name, so that nothing of a role is imported but the one that runs; the second says whether it needs the servers.
_ROLES = {"ingress": True, "streams": True, "sinks": True, "simulator": False}


# The ingress takes webhooks without it.
_ON_CASSANDRA = frozenset({"sinks"})


@click.command("run")
@click.argument("role", metavar="ROLE", type=click.Choice(list(_ROLES)))
@click.argument("names", metavar="[NAME...]", nargs=-1)
def command(role: str, names: tuple[str, ...]) -> None:
    """Run one ROLE until SIGTERM: ingress, streams, sinks (all, or those named), or simulator (a platform to try with)."""
    settings = load_settings()
    configure_logging(settings, role=role)
    start_tracing(role=role, worker=settings.worker)
    if _ROLES[role]:
        settings = resolve_servers(settings)
        # Under `up`, which has looked itself, a server may be away for a moment: then the role waits or is started again.
        if "OTTLA_SUPERVISED" not in os.environ:
            needed = settings if role in _ON_CASSANDRA else settings.model_copy(update={"cassandra": ""})
            asyncio.run(check_servers(needed))
    module = f"infra.{role}.run" if role == "simulator" else f"{role}.run"
    try:
        entry = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.rpartition(".")[0]):
            raise
        raise NotFoundError(f"The role {role} is not part of this installation: install Ottla whole.") from None
    tune_collector()
    try:
        entry.run(settings, names)
    finally:
        stop_tracing()
