"""POST /v1/config -> [tenants] [accounts] [agents]: what `ottla apply` asks for, checked as a whole and then written.

Writing it again changes nothing, so a caller that got no answer repeats the call.
"""

import asyncio

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.config_tables import ConfigTables
from infra.kafka.producer import ProduceError, Producer
from ingress.audit import Audit, audit_of
from ingress.auth import EVERY_TENANT
from ingress.body import BodyTooLargeError, BodyTooSlowError, read_body
from ingress.problems import problem
from ingress.takes import takes
from schemas.codec import cloud_event_headers, encode
from schemas.config_file import ConfigFileError, Configuration, read_configuration
from schemas.events.config import Account, Agent, Tenant
from schemas.ids import event_id
from schemas.topics import ACCOUNTS, AGENTS, TENANTS, Topic

_READ_S = 5.0
_LISTS = {
    "type": "object",
    "properties": {each: {"type": "array", "items": {"type": "object"}} for each in ("tenants", "accounts", "agents")},
}


@takes(body=_LISTS)
async def post_config(request: Request) -> Response:
    """Write tenants, accounts and agents: 200 with how many of each, 422 with every mistake, each with its path."""
    if request.state.tenant != EVERY_TENANT:
        return problem(403, "Admin key needed", "Only the admin key changes tenants, accounts and agents.")
    state = request.app.state
    tables: ConfigTables = state.config
    if not await tables.wait_until_started(timeout_s=_READ_S):
        return problem(503, "Not ready", "What is applied already cannot be read yet: try again in a moment.", {"Retry-After": "2"})
    try:
        document = msgspec.json.decode(await read_body(request))
        wanted = read_configuration(document, applied=applied_configuration(tables))
    except ConfigFileError as error:
        return _mistakes(error)
    except (BodyTooLargeError, BodyTooSlowError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return problem(422, "Body not usable", f"Send a JSON object with lists under tenants, accounts and agents ({error}).")
    try:
        await _note(wanted, audit_of(request))
        await _write(wanted, state.producer, tables, now_ms=state.clock.now_ms())
    except ProduceError as error:
        return problem(503, "Not applied", f"The log did not acknowledge ({error}): apply the same again.", {"Retry-After": "5"})
    counts = {"tenants": len(wanted.tenants), "accounts": len(wanted.accounts), "agents": len(wanted.agents)}
    return JSONResponse({"applied": counts})


def applied_configuration(tables: ConfigTables) -> Configuration:
    """Return what is applied now."""
    return Configuration(
        tenants=tuple(tables.tenants.values()), accounts=tuple(tables.accounts.values()), agents=tuple(tables.agents.values())
    )


async def _note(wanted: Configuration, audit: Audit) -> None:
    named = ((TENANTS, wanted.tenants), (AGENTS, wanted.agents), (ACCOUNTS, wanted.accounts))
    await asyncio.gather(*(audit.note("apply", f"{topic.name}/{entry.id}") for topic, entries in named for entry in entries))


async def _write(wanted: Configuration, producer: Producer, tables: ConfigTables, *, now_ms: int) -> None:
    """Write all and return once this process's own tables have it, so that the next call may refer to it."""
    # Accounts come last: until then nothing points to the new agents.
    for topic, entries in ((TENANTS, wanted.tenants), (AGENTS, wanted.agents), (ACCOUNTS, wanted.accounts)):
        offsets = await asyncio.gather(*(_send(producer, topic, entry, now_ms=now_ms) for entry in entries))
        if offsets:
            await tables.wait_until_read(topic, max(offsets), timeout_s=_READ_S)


async def _send(producer: Producer, topic: Topic, entry: Tenant | Account | Agent, *, now_ms: int) -> int:
    headers = cloud_event_headers(
        event_id=event_id(topic.name, entry.id, str(now_ms)), event_type=f"ottla.{topic.event.lower()}", source="ingress", time_ms=now_ms
    )
    return await producer.send(topic.name, key=entry.id.encode(), value=encode(entry), headers=headers)


def _mistakes(error: ConfigFileError) -> Response:
    body = {
        "type": "about:blank",
        "title": "Configuration not usable",
        "status": 422,
        "detail": "Nothing was applied: correct what `errors` lists.",
        "errors": [{"path": mistake.path, "message": mistake.message} for mistake in error.mistakes],
    }
    return Response(orjson.dumps(body), status_code=422, media_type="application/problem+json")


routes = [Route("/v1/config", post_config, methods=["POST"])]
