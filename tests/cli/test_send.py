"""`ottla send` and POST /v1/messages: one text through the queue, and a sentence for whatever cannot be sent."""

import os
import subprocess
import sys

import pytest

from infra.settings import Settings
from tests.driver import ACCOUNT
from tests.installation import Installation

pytestmark = pytest.mark.servers

GOOD = {"account": ACCOUNT, "to": "15550004441", "type": "text", "text": {"body": "hello"}}
UNUSABLE = {
    "not json": b"{",
    "no text": b'{"account":"1","to":"15550004441","type":"text"}',
    "empty text": b'{"account":"1","to":"15550004441","type":"text","text":{"body":""}}',
    "text too long": b'{"account":"1","to":"15550004441","type":"text","text":{"body":"%s"}}' % (b"x" * 4097),
    "to nobody": b'{"account":"1","to":"somebody","type":"text","text":{"body":"x"}}',
    "another type": b'{"account":"1","to":"15550004441","type":"image","text":{"body":"x"}}',
    "unknown key": b'{"account":"1","to":"15550004441","type":"text","text":{"body":"x"},"when":"now"}',
    "account of letters": b'{"account":"../1","to":"15550004441","type":"text","text":{"body":"x"}}',
    "unknown priority": b'{"account":"1","to":"15550004441","type":"text","text":{"body":"x"},"priority":"now"}',
    "number for text": b'{"account":"1","to":"15550004441","type":"text","text":{"body":1}}',
}


def ottla(installation: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **installation.running["ingress"].environment}
    return subprocess.run([sys.executable, "-m", "infra", *words], env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_send_and_its_refusals(settings: Settings) -> None:
    """A text is queued and sent; what cannot be sent is refused in a sentence, with 422 and exit code 2."""
    async with Installation(settings) as installation:
        headers = {"Authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
        for name, body in UNUSABLE.items():
            async with installation.http.post(f"{installation.url}/v1/messages", data=body, headers=headers) as response:
                assert response.status == 422, name
                assert response.content_type == "application/problem+json"
                assert (await response.json())["detail"].endswith((".", ":")), name
        done = ottla(installation, "send", "15550004441", "from the terminal")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Queued as ")
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        assert b"from the terminal" in bytes(installation.platform.books.accepted()[0].body)
        refused = ottla(installation, "send", "somebody", "hello")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.count("\n") == 1
