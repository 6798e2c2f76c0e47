"""ingress: what the webhook answers, and that 200 means the log has it."""

import asyncio
import io
import json
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest

from infra.settings import Settings
from infra.simulator.signing import sign
from infra.simulator.webhooks import text_body
from ingress.body import LARGE_BODY_BYTES
from ingress.connections import HEADERS_MAX
from schemas.codec import decode
from schemas.events.webhook_part import WebhookPart
from schemas.ids import callback_data, key_hash
from schemas.topics import BODY_BYTES_MAX
from tests.driver import ACCOUNT
from tests.installation import Installation
from tests.reading import records

pytestmark = pytest.mark.servers

PAYLOADS = Path(__file__).parents[2] / "infra" / "simulator" / "payloads"
TEXT = text_body(account=ACCOUNT, phone="15550001111", texts=[("wamid.1", "hello")], at_s=1)
INVALID = {
    "made-empty": 400,
    "made-not-json": 400,
    "made-truncated": 400,
    "made-nan": 400,
    "made-bom": 400,
    "made-array": 200,
    "made-deep": 200,
    "made-dup-keys": 200,
    "made-lone-surrogate": 200,
    "made-null": 200,
}


async def post(installation: Installation, body: bytes, headers: dict[str, str], path: str = "/webhooks/whatsapp") -> int:
    """Post a body with just these headers; return the status."""
    async with installation.http.post(installation.url + path, data=io.BytesIO(body), headers=headers) as response:
        await response.read()
        return response.status


@pytest.fixture
def only_ingress(settings: Settings) -> Installation:
    """Give an installation that runs the ingress alone."""
    return Installation(settings, roles=("ingress",))


async def test_answers_by_kind_of_request(only_ingress: Installation) -> None:
    """Signature before body: 401 whatever the body, then 400, 413 or 200, at all three paths."""
    async with only_ingress as installation:
        secret = installation.secret
        good = sign(TEXT, secret)
        for path in ("/webhooks/whatsapp", "/api/webhook", "/api/webhooks/whatsapp"):
            assert await post(installation, TEXT, good, path) == 200
        assert await post(installation, TEXT, {}) == 401
        assert await post(installation, TEXT, sign(TEXT, b"another secret")) == 401
        assert await post(installation, TEXT + b" ", good) == 401
        assert await post(installation, b"not json", {}) == 401
        large = b" " * (BODY_BYTES_MAX + 1)
        assert await post(installation, large, sign(large, secret)) == 413
        for name, status in INVALID.items():
            body = (PAYLOADS / "invalid" / f"{name}__composed__1.txt").read_bytes()
            assert await post(installation, body, sign(body, secret)) == status, name


async def test_every_stored_payload_is_answered_200_and_kept(only_ingress: Installation) -> None:
    """Each real body is stored: as many records as parts, none lost, and every record decodes."""
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
    assert len(bodies) > 100
    async with only_ingress as installation:
        statuses = [await post(installation, body, sign(body, installation.secret)) for body in bodies]
        assert statuses == [200] * len(bodies)
        kept = await records(installation.settings, "raw") + await records(installation.settings, "status")
    assert len(kept) >= len(bodies)
    for record in kept:
        part = decode(record.value, WebhookPart)
        assert record.key.decode() == part.conversation
        assert dict(record.headers)["ce_type"] in {b"ottla.raw", b"ottla.status"}


async def test_a_status_of_ours_goes_to_the_partition_of_its_send(only_ingress: Installation) -> None:
    """A status with our callback data is placed by the conversation's hash, whoever its recipient is called."""
    conversation = f"wa:{ACCOUNT}:15550001111"
    status = {"id": "wamid.x", "status": "sent", "timestamp": "1", "recipient_id": "999", "recipient_user_id": "US.1"}
    status["biz_opaque_callback_data"] = callback_data(send="0" * 32, conversation=conversation)
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": ACCOUNT}, "statuses": [status]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})
    async with only_ingress as installation:
        assert await installation.post(body.encode()) == 200
        (record,) = await records(installation.settings, "status")
    assert record.partition == key_hash(conversation.encode()) % only_ingress.settings.partitions


async def test_the_challenge_needs_the_token(only_ingress: Installation) -> None:
    """The verification challenge is answered with its own text to whoever knows the token, and to nobody else."""
    async with only_ingress as installation:
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444"}
        token = installation.settings.whatsapp_verify_token.get_secret_value()
        async with installation.http.get(installation.webhook_url, params=query | {"hub.verify_token": token}) as response:
            assert (response.status, await response.text()) == (200, "1158201444")
            assert response.content_type == "text/plain"
        for wrong in (query | {"hub.verify_token": "x"}, query, {"hub.verify_token": token, "hub.mode": "other"}):
            async with installation.http.get(installation.webhook_url, params=wrong) as response:
                assert response.status == 403


async def test_what_splits_large_bodies_ends_with_the_ingress(only_ingress: Installation) -> None:
    """Also when the ingress is killed: nobody else would end it."""
    texts = [(f"wamid.{number}", "hello " * 20) for number in range(200)]
    body = text_body(account=ACCOUNT, phone="15550001111", texts=texts, at_s=1)
    assert len(body) > LARGE_BODY_BYTES
    async with only_ingress as installation:
        assert await installation.post(body) == 200
        assert len(await records(installation.settings, "raw")) == 1
        role = installation.running["ingress"]
        assert role.process is not None
        (splitting,) = [each for each in psutil.Process(role.process.pid).children() if "ingress.splitting" in each.cmdline()]
        await role.end(signal.SIGKILL)
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [splitting], 20)
        assert gone == [splitting]


async def test_a_head_has_a_limit(only_ingress: Installation) -> None:
    """The real ingress serves with `ingress.connections`."""
    async with only_ingress as installation:
        reader, writer = await asyncio.open_connection("127.0.0.1", installation.port)
        writer.write(b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()


async def test_what_cannot_be_stored_is_503(settings: Settings) -> None:
    """Without a broker no webhook is answered 200, and the process stays up to say so."""
    away = settings.model_copy(update={"kafka": "127.0.0.1:9"})
    async with Installation(settings, roles=("ingress",)) as installation:
        role = installation.running["ingress"]
        await role.end()
        # As under `ottla up`: started by hand it would say that Kafka does not answer, and end.
        role.environment |= {"OTTLA_KAFKA": away.kafka, "OTTLA_SUPERVISED": "1"}
        role.start()
        status = 0
        async with asyncio.timeout(60):
            while status == 0:
                try:
                    status = await installation.post(TEXT)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        assert status == 503
        async with installation.http.get(f"{installation.url}/livez") as response:
            assert response.status == 200
        async with installation.http.get(f"{installation.url}/readyz") as response:
            assert response.status == 503


async def test_everything_else_needs_a_key(only_ingress: Installation) -> None:
    """Without the key every path but webhooks, /livez, /readyz and the pages is 401, also one that does not exist."""
    async with only_ingress as installation:
        for path in ("/health", "/metrics", "/v1/groups", "/v1/conversations", "/v1/messages/x", "/nothing"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
                async with installation.http.get(installation.url + path, headers=headers) as response:
                    assert response.status == 401, path
                    assert response.content_type == "application/problem+json"
        assert (await installation.get("/health"))[0] == 200
