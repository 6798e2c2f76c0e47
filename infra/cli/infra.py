"""`ottla infra`: the local Kafka and Cassandra alone."""

import asyncio
import dataclasses
import json

import click

from infra.errors import OttlaError
from infra.servers.jars import fetch_jars
from infra.servers.local import PLANS, ServerStatus, owner_of, servers_status, start_servers, stop_servers
from infra.settings import Settings, load_settings


@click.group("infra")
def command() -> None:
    """Local Kafka and Cassandra: start, stop and see them."""


@command.command("up")
def up() -> None:
    """Start both (those that no setting names) and leave them running."""
    settings = load_settings()
    # Before anything runs, so that a download can be interrupted like any other program.
    fetch_jars(tuple(plan.name for plan in PLANS if not getattr(settings, plan.name)))
    servers = asyncio.run(start_servers(settings, die_with_parent=False))
    click.echo(f"Kafka {servers.kafka}, Cassandra {servers.cassandra}: `ottla infra down` stops what runs in {settings.home}.")


@command.command("down")
def down() -> None:
    """Stop both; their data stays."""
    home = load_settings().home
    for plan in PLANS:
        owner = owner_of(home, plan)
        if owner:
            raise OttlaError(f"{plan.title} belongs to process {owner}, which would start it again: stop that `ottla up` instead.")
    stopped = asyncio.run(stop_servers(home))
    click.echo(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.")


@command.command("status")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(output: str) -> None:
    """Show what runs, where, and how much memory it takes."""
    settings = load_settings()
    rows = [row if not getattr(settings, row.name) else _elsewhere(settings, row) for row in servers_status(settings.home)]
    if output == "json":
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    _print_table(rows)


@command.command("fetch")
def fetch() -> None:
    """Fetch the servers' jars into the cache of this user; quick when they are there."""
    fetch_jars()


def _elsewhere(settings: Settings, row: ServerStatus) -> ServerStatus:
    return ServerStatus(row.name, "set", getattr(settings, row.name), 0, 0, f"OTTLA_{row.name.upper()}", "")


def _print_table(rows: list[ServerStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for title in ("server", "state", "address", "pid", "memory", "started by"):
        table.add_column(title)
    for row in rows:
        memory, pid = f"{row.memory_mb} MB" if row.memory_mb else "", str(row.pid or "")
        table.add_row(row.name, row.state, row.address, pid, memory, row.started_by)
    Console().print(table)
