"""Request bodies, bounded in size, in time, and in the memory that all of them take together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from schemas.topics import BODY_BYTES_MAX, MIB

BODY_DEADLINE_S = 10.0
LARGE_BODY_BYTES = 16 * 1024
"""Larger bodies are counted, and are checked and split where others do not wait for them: hostile JSON takes over a millisecond per KiB."""

ROOM_BYTES = 64 * MIB


class BodyTooLargeError(Exception):
    """A body over the limit."""


class BodyTooSlowError(Exception):
    """A body that did not arrive within the deadline."""


class ClientLeftError(BodyTooSlowError):
    """A body whose client went away before its end: nobody waits for an answer."""


class NoRoomError(BodyTooSlowError):
    """A large body that gave way to others, which arrive faster or came first."""


@dataclass(eq=False)
class _Held:
    """A large body in memory: how many bytes of it, and what cuts it off while it is arriving."""

    arriving: asyncio.Timeout
    size: int = 0
    gave_way: bool = False


class BodyRoom:
    """The memory for large bodies. When it is full, the one that has been arriving for longest gives way.

    So whoever sends a byte now and then does not keep out those who send all they have.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._arriving: dict[_Held, None] = {}

    @property
    def free(self) -> int:
        """How many bytes there is room for."""
        return self._free

    def grow(self, held: _Held, size: int) -> None:
        """Count a body that has so many bytes by now and is arriving."""
        if held.gave_way:
            return
        self._arriving.setdefault(held)
        self._count(held, size)
        while self._free < 0 and self._arriving:
            oldest = next(iter(self._arriving))
            oldest.gave_way = True
            self.leave(oldest)
            if not oldest.arriving.expired():
                oldest.arriving.reschedule(0)

    def arrived(self, held: _Held) -> None:
        """Say that a body is complete: it gives way to nobody any more."""
        self._arriving.pop(held, None)

    def leave(self, held: _Held) -> None:
        """Count a body no more."""
        self._arriving.pop(held, None)
        self._count(held, 0)

    def _count(self, held: _Held, size: int) -> None:
        self._free -= size - held.size
        held.size = size


ROOM = BodyRoom(ROOM_BYTES)
"""All bodies of the process are in it."""


@asynccontextmanager
async def body_of(request: Request, *, at_most: int = BODY_BYTES_MAX) -> AsyncIterator[bytes]:
    """Yield the body, which is counted as long as the context is open.

    Raises BodyTooLargeError for one of more than `at_most` bytes, BodyTooSlowError past the deadline, NoRoomError if it had to give way,
    and ClientLeftError if it ends early.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > at_most:
        raise BodyTooLargeError
    deadline = asyncio.timeout(BODY_DEADLINE_S)
    held = _Held(deadline)
    try:
        try:
            async with deadline:
                body = await _read(request, held, at_most)
        except TimeoutError:
            raise (NoRoomError if held.gave_way else BodyTooSlowError) from None
        if held.gave_way:
            raise NoRoomError
        ROOM.arrived(held)
        yield body
    finally:
        ROOM.leave(held)


async def read_body(request: Request, *, at_most: int = BODY_BYTES_MAX) -> bytes:
    """Return the body; raises what `body_of` raises."""
    async with body_of(request, at_most=at_most) as body:
        return body


async def _read(request: Request, held: _Held, at_most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    # As request.stream() reads it, without a generator for each body.
    while (message := await request.receive())["type"] == "http.request":
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > at_most:
            raise BodyTooLargeError
        chunks.append(chunk)
        if size > LARGE_BODY_BYTES:
            ROOM.grow(held, size)
        if not message.get("more_body", False):
            return b"".join(chunks)
    raise ClientLeftError
