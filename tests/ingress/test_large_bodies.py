"""ingress.webhook_to_raw: what becomes of large bodies, and that others have their turn meanwhile."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from infra.clock import SystemClock
from infra.kafka.producer import ProduceError
from infra.simulator.signing import sign
from infra.simulator.webhooks import text_body
from ingress import body, webhook_to_raw
from ingress.body import LARGE_BODY_BYTES, BodyRoom
from ingress.splitting import SplittingEndedError
from ingress.webhook_to_raw import WebhookToRaw
from schemas.channels import CHANNELS
from schemas.channels.base import Part
from tests.driver import ACCOUNT

CHANNEL = CHANNELS["whatsapp"]
SECRET = b"secret"
TEXT = text_body(account=ACCOUNT, phone="15550001111", texts=[("wamid.1", "hello")], at_s=1)
LARGE = text_body(account=ACCOUNT, phone="15550001111", texts=[("wamid.1", "a" * LARGE_BODY_BYTES)], at_s=1)


class Secrets:
    complete = True

    def app_secrets(self, _: str | None = None) -> Sequence[bytes]:
        return (SECRET,)

    def verify_token(self) -> str:
        return ""


class Log:
    """Takes records and acknowledges them at the next turn of the loop, all but the one with number `refused`."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.waiting = self.most_waiting = 0
        self.refused = -1

    def produce(self, _: str, *, key: bytes, **__: Any) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.keys.append(key)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        asyncio.get_running_loop().call_later(0.001, self._acknowledge, future, len(self.keys) - 1)
        return future

    def _acknowledge(self, future: asyncio.Future[int], number: int) -> None:
        self.waiting -= 1
        if number == self.refused:
            future.set_exception(ProduceError("refused"))
        else:
            future.set_result(number)


class Apart:
    """Splits apart: counts how often, or fails."""

    def __init__(self, parts: Sequence[Part] | None = None, *, fails: bool = False) -> None:
        self.count = 0
        self._parts = parts
        self._fails = fails

    async def split(self, given: bytes, *, received_at_ms: int) -> list[Part]:
        self.count += 1
        if self._fails:
            raise SplittingEndedError
        return CHANNEL.split(given, received_at_ms=received_at_ms) if self._parts is None else list(self._parts)


async def post(log: Log, apart: Apart, given: bytes, *, secret: bytes = SECRET) -> int:
    """Post a body; return the status."""
    webhook = WebhookToRaw(CHANNEL, producer=log, secrets=Secrets(), clock=SystemClock(), split_apart=apart.split)  # type: ignore[arg-type]
    headers = [(name.lower().encode(), text.encode()) for name, text in sign(given, secret).items()]

    async def receive() -> Message:
        return {"type": "http.request", "body": given, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/webhooks/whatsapp", "query_string": b"", "headers": headers}
    return (await webhook.receive(Request(scope, receive))).status_code


async def test_only_large_bodies_are_split_apart_and_only_when_they_are_signed() -> None:
    log, apart = Log(), Apart()
    assert await post(log, apart, TEXT) == 200
    assert apart.count == 0
    assert await post(log, apart, LARGE, secret=b"another") == 401
    assert apart.count == 0
    assert await post(log, apart, LARGE) == 200
    assert apart.count == 1
    assert len(log.keys) == 2


async def test_a_body_that_could_not_be_split_is_not_stored() -> None:
    """503: the platform sends it again."""
    log = Log()
    assert await post(log, Apart(fails=True), LARGE) == 503
    assert log.keys == []


async def test_a_large_body_without_room_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """503: the platform sends it again; a small one is taken all the same."""
    monkeypatch.setattr(body, "ROOM", BodyRoom(LARGE_BODY_BYTES))
    log = Log()
    assert await post(log, Apart(), LARGE) == 503
    assert await post(log, Apart(), TEXT) == 200
    assert len(log.keys) == 1


def many(count: int) -> list[Part]:
    """Return parts of as many conversations."""
    return [Part(topic="raw", key=f"wa:1:{number}", value=b"{}") for number in range(count)]


async def test_others_have_their_turn_while_a_body_of_many_parts_is_stored() -> None:
    """Whoever waits sees it go on in small steps, and the broker is never given more than a thousand at a time."""
    log, steps = Log(), [0]

    async def watch() -> None:
        while True:
            steps.append(len(log.keys))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    assert await post(log, Apart(many(2_500)), LARGE) == 200
    watching.cancel()
    assert log.keys == [part.key.encode() for part in many(2_500)]
    assert max(after - before for before, after in itertools.pairwise(steps)) <= webhook_to_raw._TURN_PARTS
    assert log.most_waiting <= webhook_to_raw._PRODUCED_PARTS


@pytest.mark.parametrize("refused", [0, 999, 1_000, 2_499])
async def test_one_part_that_is_refused_makes_it_503(refused: int) -> None:
    """Wherever it stands; nothing is left unread, and what comes after its thousand is not tried."""
    log = Log()
    log.refused = refused
    assert await post(log, Apart(many(2_500)), LARGE) == 503
    assert log.waiting == 0
    assert len(log.keys) == min(2_500, (refused // 1_000 + 1) * 1_000)
