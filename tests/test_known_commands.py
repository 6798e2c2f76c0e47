"""What people know works too: uvicorn, faust and python -m start the same roles as `ottla run` does."""

import signal

import pytest

from infra.settings import Settings
from infra.simulator.webhooks import text_body
from tests.driver import ACCOUNT
from tests.installation import Installation

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


async def test_a_message_goes_through_roles_started_the_usual_way(settings: Settings) -> None:
    """`uvicorn ingress.app:app`, `faust -A streams.app worker` and `python -m sinks` answer a message and write its history."""
    async with Installation(settings) as installation:
        commands = {
            "ingress": ["-m", "uvicorn", "ingress.app:app", "--port", str(installation.port)],
            "streams": ["-m", "faust", "-A", "streams.app", "worker", "--without-web", "-l", "warn"],
            "sinks": ["-m", "sinks", "sender", "history"],
        }
        for name, words in commands.items():
            assert await installation.running[name].end() == 0, f"{name} did not end cleanly"
            installation.running[name].start(words)
        for name in commands:
            await installation.ready(name)
        body = text_body(account=ACCOUNT, phone="15550005551", texts=[("wamid.known", "started as usual")], at_s=1)
        assert await installation.post(body) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        assert b"started as usual" in bytes(installation.platform.books.accepted()[0].body)
        # uvicorn's own command drains and then dies of the signal it was sent.
        assert [await installation.running[name].end() for name in commands] == [-signal.SIGTERM, 0, 0]
