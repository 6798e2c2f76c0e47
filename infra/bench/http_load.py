"""A client that costs little, so that it can fill a server on the same machine: whole requests in, statuses out, over kept connections.

It knows as much of HTTP/1.1 as the servers measured here answer: a status line, headers, and a body of `Content-Length` bytes.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from typing import Self, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"


def request_bytes(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def read_answer(data: bytes | bytearray) -> tuple[int, int] | None:
    """Return the status of the first answer in `data` and how many bytes it has; None if it is not all there."""
    head = data.find(_HEAD_END)
    if head < 0:
        return None
    found = _LENGTH.search(data, 0, head + 2)
    size = head + len(_HEAD_END) + (int(found[1]) if found else 0)
    return (int(data[9:12]), size) if len(data) >= size else None


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = bytearray()
        self._waiter: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, though not by its class
        self._data.clear()

    def data_received(self, data: bytes) -> None:
        self._data += data
        answer = read_answer(self._data)
        if answer is not None and self._waiter is not None:
            del self._data[: answer[1]]
            if not self._waiter.done():
                self._waiter.set_result(answer[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError("closed"))

    async def ask(self, request: bytes) -> int:
        if self._transport is None:
            raise ConnectionResetError("closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class HttpLoad:
    """Connections to one port of loopback; an async context manager."""

    def __init__(self, port: int, *, connections: int) -> None:
        self._port = port
        self._free: asyncio.Queue[_Connection] = asyncio.Queue()
        self._all = [_Connection() for _ in range(connections)]

    async def __aenter__(self) -> Self:
        for connection in self._all:
            self._free.put_nowait(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._all:
            connection.close()

    async def ask(self, request: bytes) -> int:
        """Send a request over a free connection and return the status; OSError if the server is not there or goes away."""
        connection = await self._free.get()
        try:
            if not connection.is_open:
                await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self._port)
            return await connection.ask(request)
        finally:
            self._free.put_nowait(connection)

    async def fill(self, requests: Iterator[bytes], *, seconds: float) -> tuple[int, list[float]]:
        """Keep all connections busy for so long; return how many were answered 200 and the time of each, in seconds."""
        until = time.perf_counter() + seconds
        times: list[float] = []

        async def one_by_one() -> None:
            while (started := time.perf_counter()) < until:
                request = next(requests, None)
                if request is None:
                    return
                if await self.ask(request) == 200:  # noqa: PLR2004
                    times.append(time.perf_counter() - started)

        await asyncio.gather(*(one_by_one() for _ in self._all))
        return len(times), times
