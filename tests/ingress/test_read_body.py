"""ingress.body.read_body: a body is bounded in size and in time, whatever its sender claims."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from ingress import body
from ingress.body import LARGE_BODY_BYTES, BodyRoom, BodyTooLargeError, BodyTooSlowError, ClientLeftError, NoRoomError, body_of, read_body
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
    monkeypatch.setattr(body, "BODY_DEADLINE_S", 0.05)
    with pytest.raises(BodyTooSlowError):
        await asyncio.wait_for(read_body(request([chunk(b"only this")])), 5)


async def test_a_trickle_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not extend the deadline: it is for the whole body."""
    monkeypatch.setattr(body, "BODY_DEADLINE_S", 0.05)

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
    with pytest.raises(ClientLeftError):
        await read_body(request([chunk(b"half"), {"type": "http.disconnect"}]))


LARGE = 4 * LARGE_BODY_BYTES


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> BodyRoom:
    """Give room for two and a half large bodies."""
    room = BodyRoom(LARGE * 5 // 2)
    monkeypatch.setattr(body, "ROOM", room)
    return room


async def held_up(room: BodyRoom, size: int = LARGE) -> asyncio.Task[bytes]:
    """Begin to read a body that stalls after so many bytes."""
    free = room.free
    task = asyncio.create_task(read_body(request([chunk(b" " * size)])))
    while room.free == free and size > LARGE_BODY_BYTES:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_the_one_that_arrives_for_longest_gives_way(room: BodyRoom) -> None:
    """All bodies together have so much memory and no more, and those that stall do not keep out those that do not."""
    stalled = [await held_up(room) for _ in range(2)]
    assert await read_body(request([chunk(b" " * LARGE, more=False)])) == b" " * LARGE
    with pytest.raises(NoRoomError):
        await asyncio.wait_for(stalled[0], 5)
    assert not stalled[1].done()
    stalled[1].cancel()
    await asyncio.wait(stalled)
    assert room.free == LARGE * 5 // 2


async def test_what_is_complete_gives_way_to_nobody(room: BodyRoom) -> None:
    """It is being stored: then it is the newest that must come again."""
    async with body_of(request([chunk(b"1" * LARGE, more=False)])), body_of(request([chunk(b"2" * LARGE, more=False)])):
        with pytest.raises(NoRoomError):
            await asyncio.wait_for(read_body(request([chunk(b"3" * LARGE, more=False)])), 5)
        assert room.free == LARGE // 2
    assert room.free == LARGE * 5 // 2


async def test_small_bodies_need_no_room(room: BodyRoom) -> None:
    """Whoever fills the room with large ones holds up large ones only."""
    async with body_of(request([chunk(b"1" * LARGE, more=False)])), body_of(request([chunk(b"2" * LARGE, more=False)])):
        stalled = [await held_up(room, LARGE_BODY_BYTES) for _ in range(20)]
        assert await read_body(request([chunk(b"small", more=False)])) == b"small"
        assert not any(task.done() for task in stalled)
    for task in stalled:
        task.cancel()
    await asyncio.wait(stalled)


async def test_whatever_ends_a_body_makes_room(room: BodyRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves, a deadline, a body too large."""
    monkeypatch.setattr(body, "BODY_DEADLINE_S", 0.05)
    with pytest.raises(ClientLeftError):
        await read_body(request([chunk(b" " * LARGE), {"type": "http.disconnect"}]))
    with pytest.raises(BodyTooSlowError):
        await read_body(request([chunk(b" " * LARGE)]))
    with pytest.raises(BodyTooLargeError):
        await read_body(request([chunk(b" " * LARGE), chunk(b" ")]), at_most=LARGE)
    assert room.free == LARGE * 5 // 2
