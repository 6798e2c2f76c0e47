"""Users of a run: real texts with numbers, signed as the platform signs, and replies known by their numbers."""

import asyncio
import hmac
import itertools
import time
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from infra.bench.http_load import HttpLoad
from infra.bench.users import Users, number_of, real_texts, webhooks
from infra.simulator.platform import SimulatedPlatform


def test_webhooks_are_signed_numbered_and_take_turns() -> None:
    requests = list(itertools.islice(webhooks(secret=b"secret", conversations=2), 3))
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    assert all(hmac.digest(b"secret", body, "sha256").hex().encode() in request for request, body in zip(requests, bodies, strict=True))
    values = [msgspec.json.decode(body)["entry"][0]["changes"][0]["value"] for body in bodies]
    assert [value["contacts"][0]["wa_id"] for value in values] == ["15550000000", "15550000001", "15550000000"]
    assert [value["messages"][0]["text"]["body"].split()[0] for value in values] == ["0", "1", "2"]


def test_texts_are_what_real_users_wrote() -> None:
    texts = real_texts()
    assert len(set(texts)) > 500
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"to":"1","type":"text","text":{"body":"echo: 17 hello there"}}', 17),
        (b'{"text":{"body":"echo: 0"}}', 0),
        (b'{"text":{"body":"Sorry, something went wrong."}}', None),
        (b'{"text":{"body":"sorry"}}', None),
        (b'{"type":"image"}', None),
        (b"nonsense", None),
        (b"null", None),
    ],
)
def test_a_reply_names_its_message(body: bytes, number: int | None) -> None:
    assert number_of(body) == number


async def test_a_load_goes_on_until_it_is_over() -> None:
    """At its rate, and every number it posted is known with its time when it has ended."""
    taken: list[bytes] = []
    enough = asyncio.Event()

    class Load:
        async def ask(self, request: bytes) -> int:
            await asyncio.sleep(0.01)
            taken.append(request)
            if len(taken) == 5:
                enough.set()
            return 200

    books = SimpleNamespace(books=SimpleNamespace(watchers=[]))
    users = Users(cast("SimulatedPlatform", books), cast("HttpLoad", Load()), secret=b"secret")
    begun = time.perf_counter()
    async with users.posting(100.0, conversations=2) as numbers:
        await enough.wait()
    assert numbers == list(range(len(taken)))
    times = [users.posted_at(number) for number in numbers]
    assert times == sorted(times)
    assert times[4] - begun >= 0.04
