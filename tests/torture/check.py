"""`python -m tests.torture.check FILE`: judges a kept history again; exit code 1 if there is an anomaly."""

import sys
from pathlib import Path

import click

from tests.torture.checker import NAMES, check
from tests.torture.history import read_history


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--markdown", is_flag=True, help="print tables")
@click.option("--drop", multiple=True, type=click.Choice(NAMES), help="an anomaly that is not looked for; may be given several times")
def main(file: Path, *, markdown: bool, drop: tuple[str, ...]) -> None:
    """Print the verdict on the history in FILE."""
    report = check(read_history(file), drop=drop)
    click.echo(report.markdown() if markdown else "\n".join(report.lines()))
    sys.exit(not report.clean)


if __name__ == "__main__":
    main()
