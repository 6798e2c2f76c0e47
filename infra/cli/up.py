"""`ottla up`: the whole installation in one terminal."""

import asyncio

import click

from infra.servers.jars import fetch_jars
from infra.settings import load_settings


@click.command("up")
def command() -> None:
    """Start servers, topics and all roles, show what they log, keep them running; Ctrl-C stops everything in order."""
    settings = load_settings()
    # Before anything runs, so that a download can be interrupted like any other program.
    fetch_jars(tuple(name for name in ("kafka", "cassandra") if not getattr(settings, name)))
    from infra.supervisor.up import up
    from infra.warm import begin_imports, end_imports

    begin_imports()
    try:
        asyncio.run(up(settings))
    finally:
        end_imports()
