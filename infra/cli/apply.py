"""`ottla apply FILE`: tenants, accounts and agents from YAML into the running installation."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import click
import orjson

from infra.configuration_yaml import ConfigurationYaml, read_configuration_yaml
from infra.errors import OttlaError, UsageError
from infra.settings import Settings, load_settings
from schemas.config_file import ConfigFileError, Mistake, read_configuration

_TIMEOUT_S = 30.0
_OK, _UNAUTHORIZED, _UNUSABLE = 200, 401, 422


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
    status, answer = asyncio.run(_post(settings, orjson.dumps(read.document)))
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


async def _post(settings: Settings, body: bytes) -> tuple[int, dict[str, Any]]:
    url = settings.ingress_url
    headers = {"Authorization": f"Bearer {settings.admin_key.get_secret_value()}", "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.post(f"{url}/v1/config", data=body, allow_redirects=False) as response,
        ):
            if response.status == _UNAUTHORIZED:
                raise OttlaError(f"The ingress at {url} has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME to the one it runs with.")
            answer = orjson.loads(await response.read())
            return response.status, answer if isinstance(answer, dict) else {}
    except aiohttp.ClientConnectorError:
        raise OttlaError(f"No ingress listens at {url}: start one with `ottla up`, then apply again.") from None
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        raise OttlaError(f"What listens at {url} did not answer as our ingress does: check OTTLA_HOST and OTTLA_PORT.") from None
