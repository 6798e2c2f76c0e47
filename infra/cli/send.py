"""`ottla send`: one text to one person, through the queue like every other send."""

import asyncio
from typing import Any

import click

from infra.errors import OttlaError, UsageError
from infra.ingress_client import ingress_client
from infra.settings import Settings, load_settings
from infra.simulator.freshen import ACCOUNT_DEFAULT
from schemas.topics import PRIORITIES

_QUEUED, _UNUSABLE = 202, 422


@click.command("send")
@click.argument("to")
@click.argument("text")
@click.option("--account", default=ACCOUNT_DEFAULT, show_default=True, help="phone number id to send from")
@click.option("--priority", type=click.Choice(PRIORITIES), default="normal", show_default=True, help="which queue it waits in")
@click.option("--key", default="", help="Idempotency-Key: the same key again is the same send")
def command(*, to: str, text: str, account: str, priority: str, key: str) -> None:
    """Queue TEXT to the phone number or user id TO."""
    body = {"account": account, "to": to, "type": "text", "text": {"body": text}, "priority": priority}
    answer = asyncio.run(_post(load_settings(), body, {"Idempotency-Key": key} if key else {}))
    click.echo(f"Queued as {answer['id']} at place {answer['queuePosition']}. Next: `ottla conv {answer['conversation']}`.")


async def _post(settings: Settings, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    async with ingress_client(settings) as client:
        status, answer = await client.call("POST", "/v1/messages", body=body, headers=headers)
    if status == _UNUSABLE:
        raise UsageError(str(answer.get("detail")))
    if status != _QUEUED:
        raise OttlaError(f"The ingress did not queue it: {answer.get('detail') or status}")
    return answer
