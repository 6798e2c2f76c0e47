"""`ottla demo`: the whole pipeline on this machine, 200 real conversations, and a check from outside."""

from pathlib import Path

import click

from infra.demo.conversations import load_conversations
from infra.demo.run import Plan, play_demo
from infra.settings import load_settings


@click.command("demo")
@click.option("--keep", is_flag=True, help="stay up afterwards until Ctrl-C")
@click.option(
    "--conversations", "count", default=200, show_default=True, type=click.IntRange(1, len(load_conversations())), help="how many"
)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="where its data goes [default: OTTLA_HOME/demo]")
def command(*, keep: bool, count: int, home: Path | None) -> None:
    """Play real conversations through real Kafka and Cassandra, and check that each message was answered exactly once."""
    chosen = home or load_settings().home / "demo"
    play_demo(Plan(home=chosen.resolve(), keep=keep, count=count))
