"""`make test-compose`: docker-compose.yml for real, from a copy of this tree to a webhook that is answered and in Cassandra.

Not collected by `make test`: it needs a Docker engine with compose, builds the images and takes minutes.
"""

import asyncio
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from infra.servers.state import free_ports
from infra.simulator.signing import sign
from infra.simulator.webhooks import Wanted, build
from schemas.topics import BODY_BYTES_MAX

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
SECRET, VERIFY, KEY = "compose-app-secret", "compose-verify-token", "compose-admin-key"
ENV_FILE = f"""\
OTTLA_WHATSAPP_API=http://simulator:8025/v25.0
OTTLA_WHATSAPP_APP_SECRET={SECRET}
OTTLA_WHATSAPP_VERIFY_TOKEN={VERIFY}
OTTLA_WHATSAPP_TOKEN=compose-token
OTTLA_ADMIN_KEY={KEY}
OTTLA_CANARY_INTERVAL=5
COMPOSE_PROFILES=simulator
"""
ROLES = ("ingress", "streams", "sender", "history", "dead-letters")


@dataclass(frozen=True)
class Composed:
    """A running project: its folder, its name, and the ports of nginx."""

    folder: Path
    name: str
    https_port: int
    http_port: int

    @property
    def url(self) -> str:
        """Where nginx is."""
        return f"https://localhost:{self.https_port}"

    def compose(self, *words: str, timeout_s: float = 600, check: bool = True) -> str:
        """Run `docker compose` with these words; return what it printed."""
        command = ["docker", "compose", "--project-name", self.name, *words]
        ports = {"HTTPS_PORT": str(self.https_port), "HTTP_PORT": str(self.http_port)}
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **ports}, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """Copy what git knows of this tree, write a .env beside it, and bring everything up; take it all away in the end."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".env").write_text(ENV_FILE)
    project = Composed(folder, f"ottla-test-{os.getpid()}", *free_ports(2))
    try:
        began = time.monotonic()
        project.compose("build", timeout_s=1500)
        say(f"built in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        # The second worker of the streams is there from the beginning, so that no rebalance falls into a test.
        project.compose("up", "--detach", "--scale", "streams=2", timeout_s=1500)
        wait_until_healthy(project)
        say(f"up in {time.monotonic() - began:.0f} s")
        yield project
    except BaseException:
        say(project.compose("ps", "--all", check=False))
        say(project.compose("logs", "--tail", "40", check=False)[-20_000:])
        raise
    finally:
        project.compose("down", "--volumes", "--timeout", "40", check=False)


def say(text: str) -> None:
    """Print how long things took and what is wrong."""
    sys.stderr.write(f"{text}\n")


def wait_until_healthy(project: Composed, timeout_s: float = 600) -> None:
    """Wait until every container is healthy, but for the one that has done its work."""
    deadline = time.monotonic() + timeout_s
    while unwell := {each["Name"]: each["Health"] for each in containers(project) if each["Health"] != "healthy"}:
        assert time.monotonic() < deadline, unwell
        time.sleep(1)


def containers(project: Composed) -> list[dict[str, Any]]:
    """Return what compose says of each running container."""
    return [json.loads(line) for line in project.compose("ps", "--format", "json").splitlines()]


@pytest.fixture
async def http(composed: Composed) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client that takes the certificate that nginx made for itself."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # What was read in part is closed by a TLS goodbye that nobody would wait for: it is cut off instead when the client is closed.
    connector = aiohttp.TCPConnector(ssl=context, limit=8, enable_cleanup_closed=True)
    async with aiohttp.ClientSession(composed.url, connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def post_text(http: aiohttp.ClientSession, phone: str, text: str) -> int:
    """Post a signed webhook; return the status."""
    (body,) = build("text", Wanted(phone=phone, text=text))
    async with http.post("/webhooks/whatsapp", data=body, headers=sign(body, SECRET.encode())) as answer:
        return answer.status


async def messages_of(http: aiohttp.ClientSession, phone: str, *, until: int) -> list[dict[str, Any]]:
    """Return a conversation's messages from history, as soon as there are that many and all of ours were delivered."""
    path, headers = f"/v1/conversations/wa:106540352242922:{phone}/messages", {"Authorization": f"Bearer {KEY}"}
    async with asyncio.timeout(120):
        while True:
            async with http.get(path, headers=headers) as answer:
                messages = (await answer.json()).get("messages", []) if answer.status == 200 else []
            ours = [message for message in messages if message["direction"] == "out"]
            if len(messages) >= until and all(message["status"] in ("delivered", "read") for message in ours):
                return list(messages)
            await asyncio.sleep(0.5)


async def test_a_webhook_is_answered_and_in_cassandra(http: aiohttp.ClientSession) -> None:
    """The challenge, a signed text, and both sides of the conversation in history, with the delivery of the answer."""
    query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1234"}
    async with http.get("/webhooks/whatsapp", params=query) as answer:
        assert (answer.status, await answer.text()) == (200, "1234")
    assert await post_text(http, "16505550001", "I want my money back") == 200
    inbound, outbound = sorted(await messages_of(http, "16505550001", until=2), key=lambda message: str(message["direction"]))
    assert (inbound["direction"], inbound["text"]) == ("in", "I want my money back")
    assert outbound["direction"] == "out"
    assert outbound["platform_id"].startswith("wamid.")


async def test_wrong_signatures_and_keys_stay_outside(http: aiohttp.ClientSession, composed: Composed) -> None:
    """What needs a key needs it behind nginx too, metrics are not shown to the outside, and plain HTTP is sent to TLS."""
    async with http.post("/webhooks/whatsapp", data=b"{}", headers=sign(b"{}", b"another")) as answer:
        assert answer.status == 401
    async with http.get("/v1/conversations") as answer:
        assert answer.status == 401
    async with http.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}) as answer:
        assert answer.status == 404
    async with http.get(f"http://localhost:{composed.http_port}/webhooks/whatsapp?a=b", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, "https://localhost/webhooks/whatsapp?a=b")


async def test_bodies_are_bounded(http: aiohttp.ClientSession) -> None:
    """The largest body gets to the ingress; one byte more is refused by nginx, in the words of our errors."""
    largest = b" " * BODY_BYTES_MAX
    async with http.post("/webhooks/whatsapp", data=io.BytesIO(largest), headers=sign(largest, SECRET.encode())) as answer:
        assert answer.status == 400  # it is signed, and empty
    async with http.post("/webhooks/whatsapp", data=io.BytesIO(largest + b" ")) as answer:
        assert (answer.status, answer.content_type) == (413, "application/problem+json")
        assert (await answer.json(content_type=None))["status"] == 413


@pytest.mark.parametrize("pause_s", [1.0, 30.0])
def test_slow_bodies_are_ended(composed: Composed, pause_s: float) -> None:
    """One that stops is ended after 5 s, one that drips after 10 s, whatever it still promises."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("localhost", composed.https_port)) as plain, context.wrap_socket(plain) as connection:
        head = b"POST /webhooks/whatsapp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head)
        began, answer = time.monotonic(), b""
        connection.settimeout(pause_s)
        while time.monotonic() - began < 60:
            try:
                connection.sendall(b"x")
                answer = connection.recv(1000)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        took = time.monotonic() - began
    assert took < 25
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


async def test_requests_are_bounded(http: aiohttp.ClientSession) -> None:
    """Guessing keys is slow: after a burst of ten, two a second; then the answer is 429 with what to do."""

    async def log_in() -> tuple[int, str]:
        async with http.post("/login", data={"key": "wrong"}) as answer:
            return answer.status, answer.headers.get("Retry-After", "")

    answers = await asyncio.gather(*(log_in() for _ in range(40)))
    assert {status for status, _ in answers} == {403, 429}
    assert {after for status, after in answers if status == 429} == {"1"}
    # Webhooks have limits of their own.
    assert await post_text(http, "16505550002", "hello") == 200


async def test_pages_are_live_behind_nginx(http: aiohttp.ClientSession) -> None:
    """An open page hears of a message at once: nothing on the way waits for more."""
    async with asyncio.timeout(60):
        while True:  # the guesses of the test before have used the burst up
            async with http.post("/login", data={"key": KEY}, allow_redirects=False) as answer:
                if answer.status != 429:
                    assert answer.status == 303
                    assert "Secure" in answer.headers["Set-Cookie"]
                    cookie = answer.headers["Set-Cookie"].partition(";")[0]
                    break
            await asyncio.sleep(0.5)
    async with http.get("/events?view=conversations", headers={"Cookie": cookie}) as stream, asyncio.timeout(30):
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readline() == b"retry: 2000\n"
        assert await post_text(http, "16505550003", "are you there?") == 200
        async for line in stream.content:
            if line.startswith(b"data:") and "16505550003" in orjson.loads(line[5:])["html"]:
                break


async def test_containers_can_do_little_and_know_who_they_are(composed: Composed) -> None:
    """No root, nothing to write but their data; each replica has an identity of its own that outlives its container."""
    for service in ("ingress", "streams", "sender", "history", "dead-letters", "nginx"):
        said = composed.compose("exec", "-T", service, "sh", "-c", "id -u; touch /x 2>/dev/null || echo refused")
        user, refused = said.split()
        assert (user != "0", refused) == (True, "refused"), service
    mine = {f"{composed.name}-streams-1", f"{composed.name}-streams-2"}
    assert set(composed.compose("exec", "-T", "streams", "ls", "/var/lib/ottla/streams").split()) == mine
    composed.compose("up", "--detach", "--scale", "streams=2", "--force-recreate", "--no-deps", "streams")
    wait_until_healthy(composed)
    assert set(composed.compose("exec", "-T", "streams", "ls", "/var/lib/ottla/streams").split()) == mine


async def test_metrics_are_for_those_inside(composed: Composed) -> None:
    """Where Prometheus asks, by the names of the services, every role answers."""
    for service, port in {"streams": 9100, "sender": 9100, "history": 9100, "dead-letters": 9100}.items():
        code = f"import urllib.request as r; print(r.urlopen('http://{service}:{port}/metrics', timeout=5).read().decode())"
        assert "process_start_time_seconds" in composed.compose("exec", "-T", "ingress", "python", "-c", code)


async def test_a_new_ingress_is_found_and_nothing_is_lost(http: aiohttp.ClientSession, composed: Composed) -> None:
    """While it is away nginx says so in our words; afterwards webhooks are taken again, wherever it is now."""
    composed.compose("stop", "ingress")
    (body,) = build("text", Wanted(phone="16505550004", text="first"))
    async with http.post("/webhooks/whatsapp", data=body, headers=sign(body, SECRET.encode())) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    composed.compose("up", "--detach", "--no-deps", "--force-recreate", "ingress")
    wait_until_healthy(composed)
    async with asyncio.timeout(60):
        while await post_text(http, "16505550004", "again") != 200:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(1)
    await messages_of(http, "16505550004", until=2)


def test_roles_end_in_time(composed: Composed) -> None:
    """Told to stop, every role finishes what is under way and ends by itself with 0, long before it would be killed."""
    began = time.monotonic()
    composed.compose("stop", *ROLES)
    say(f"stopped in {time.monotonic() - began:.0f} s")
    stopped = [json.loads(line) for line in composed.compose("ps", "--all", "--format", "json", *ROLES).splitlines()]
    assert len(stopped) == len(ROLES) + 1
    assert {each["Name"]: each["ExitCode"] for each in stopped if each["ExitCode"] != 0} == {}
