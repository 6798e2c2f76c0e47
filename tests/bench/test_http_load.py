"""The client of the load: answers cut anywhere, several in one piece, a server that goes away."""

import asyncio
from collections.abc import Callable
from itertools import repeat

import pytest
import uvloop

from infra.bench.http_load import HttpLoad, read_answer, request_bytes
from infra.servers.state import free_ports

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
EMPTY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("size", range(len(ANSWER)))
def test_an_answer_that_is_not_all_there(size: int) -> None:
    assert read_answer(ANSWER[:size]) is None


def test_the_first_of_two_answers() -> None:
    assert read_answer(ANSWER + EMPTY) == (200, len(ANSWER))
    assert read_answer(EMPTY + ANSWER) == (503, len(EMPTY))
    assert read_answer(b"HTTP/1.1 204 No Content\r\n\r\n") == (204, 27)


def test_a_request_as_it_goes_over_the_wire() -> None:
    data = request_bytes("/x", b"{}", {"A": "b"})
    assert data.startswith(b"POST /x HTTP/1.1\r\n")
    assert data.endswith(b"Content-Length: 2\r\nA: b\r\n\r\n{}")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_statuses_over_kept_connections_and_a_server_that_goes_away(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Also on the loop that `ottla bench` runs on."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_ask_and_lose())


async def _ask_and_lose() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/leave" in head:
                writer.close()
                return
            writer.write(ANSWER if b"/good" in head else EMPTY)

    (port,) = free_ports(1)
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server, HttpLoad(port, connections=2) as load:
        assert [await load.ask(request_bytes(path, b"", {})) for path in ("/good", "/bad", "/good")] == [200, 503, 200]
        assert connections == 2
        with pytest.raises(OSError, match=r".*"):
            await load.ask(request_bytes("/leave", b"", {}))
        assert await load.ask(request_bytes("/good", b"", {})) == 200
        count, times = await load.fill(repeat(request_bytes("/good", b"", {}), 10), seconds=30)
        assert (count, len(times)) == (10, 10)
    (unused,) = free_ports(1)
    async with HttpLoad(unused, connections=1) as load:
        with pytest.raises(OSError, match=r".*"):
            await load.ask(b"")
