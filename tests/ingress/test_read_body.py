"""ingress.webhook_to_raw.read_body: a body is bounded in size and in time, whatever its sender claims."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from ingress import webhook_to_raw
from ingress.webhook_to_raw import BodyTooLargeError, BodyTooSlowError, read_body
from schemas.topics import BODY_BYTES_MAX


def request(messages: Sequence[Message], headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    """Return a request whose body arrives as these messages and then stalls."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_whole_body_is_read() -> None:
    """Chunks come together in order."""
    assert await read_body(request([chunk(b"one "), chunk(b"two", more=False)])) == b"one two"


async def test_a_stalled_body_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that stops in the middle holds us up for the deadline and no longer."""
    monkeypatch.setattr(webhook_to_raw, "BODY_DEADLINE_S", 0.05)
    with pytest.raises(BodyTooSlowError):
        await asyncio.wait_for(read_body(request([chunk(b"only this")])), 5)


async def test_a_trickle_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not extend the deadline: it is for the whole body."""
    monkeypatch.setattr(webhook_to_raw, "BODY_DEADLINE_S", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return chunk(b"x")

    with pytest.raises(BodyTooSlowError):
        await asyncio.wait_for(read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)), 5)


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    """Nothing of a body that says it is too large is read."""
    with pytest.raises(BodyTooLargeError):
        await asyncio.wait_for(read_body(request([], [(b"content-length", str(BODY_BYTES_MAX + 1).encode())])), 5)


@pytest.mark.parametrize("claimed", [b"1", b"x", b"-1", b""])
async def test_a_lying_length_does_not_help(claimed: bytes) -> None:
    """What arrives is counted, whatever was claimed."""
    pieces = [chunk(b" " * (1 << 20))] * (BODY_BYTES_MAX // (1 << 20) + 1)
    with pytest.raises(BodyTooLargeError):
        await asyncio.wait_for(read_body(request(pieces, [(b"content-length", claimed)])), 5)


async def test_a_client_that_leaves_is_noticed() -> None:
    """A disconnect in the middle is no body."""
    with pytest.raises(ClientDisconnect):
        await read_body(request([chunk(b"half"), {"type": "http.disconnect"}]))
