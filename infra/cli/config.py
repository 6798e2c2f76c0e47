"""`ottla config`: every setting, its value, where that comes from, and what it means."""

from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from infra.cli.output import output_option, show
from infra.settings import SettingOrigin, Settings, read_settings, setting_origins, unknown_variables


@click.command("config")
@output_option
def command(output: str) -> None:
    """Show every setting; secrets are masked."""
    settings = read_settings()
    rows = [
        {"variable": setting.variable, "value": _shown(settings, setting), "origin": setting.origin, "help": setting.help}
        for setting in setting_origins()
    ]
    show(output, rows, titles={"variable": "setting", "value": "value", "origin": "from", "help": "meaning"})
    for sentence in unknown_variables():
        click.echo(sentence, err=True)


def _shown(settings: Settings, setting: SettingOrigin) -> Any:
    value = getattr(settings, setting.field)
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() or setting.origin == "made" else ""
    return str(value.resolve()) if isinstance(value, Path) else value
