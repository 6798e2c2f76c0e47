"""`ottla apply FILE`: tenants, accounts and agents from YAML into the running installation."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from infra.configuration_yaml import ConfigurationYaml, read_configuration_yaml
from infra.errors import OttlaError, UsageError
from infra.ingress_client import ingress_client
from infra.settings import Settings, load_settings
from schemas.config_file import ConfigFileError, Mistake, read_configuration

_OK, _UNUSABLE = 200, 422


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Apply the tenants, accounts and agents of FILE (YAML); safe to repeat. Nothing is applied if anything in it is wrong."""
    settings = load_settings()
    read = read_configuration_yaml(file)
    mistakes = list(read.mistakes)
    try:
        # What is applied already is known to the ingress alone, which looks at references once more.
        read_configuration(read.document)
    except ConfigFileError as error:
        mistakes += error.mistakes
    _refuse(file, read, mistakes)
    status, answer = asyncio.run(_post(settings, read.document))
    if status == _UNUSABLE:
        _refuse(file, read, [Mistake(tuple(each["path"]), str(each["message"])) for each in answer.get("errors", ())])
    if status != _OK:
        raise OttlaError(f"The ingress at {settings.ingress_url} did not apply {file}: {answer.get('detail') or f'it answered {status}.'}")
    counts = [f"{count} {name if count != 1 else name[:-1]}" for name, count in answer["applied"].items() if count]
    click.echo(f"Applied {', '.join(counts)}." if counts else "There was nothing to apply.")


def _refuse(file: Path, read: ConfigurationYaml, mistakes: Iterable[Mistake]) -> None:
    sentences = [
        f"{file} line {read.line(mistake.path)}: {mistake.message}" for mistake in sorted(mistakes, key=lambda m: read.line(m.path))
    ]
    if sentences:
        raise UsageError("\n".join(dict.fromkeys(sentences)))


async def _post(settings: Settings, document: object) -> tuple[int, dict[str, Any]]:
    async with ingress_client(settings) as client:
        return await client.call("POST", "/v1/config", body=document)
