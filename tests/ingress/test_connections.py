"""ingress.connections: no client holds up others by what it does not say, whether it is one or many."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Callable

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from infra.http_options import UVICORN
from ingress import connections
from ingress.connections import HEAD_BYTES_MAX, HEADERS_MAX, Connection, connections_allowed
from tests.listening import listening

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 20.0


class Server:
    """A real server whose answer is the length of the body, given when `may_answer` is set."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer = b""
        self.asked = asyncio.Event()
        self.clients: list[Client] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.may_answer.wait()
        request = Request(scope, receive)
        await PlainTextResponse(self.answer or str(len(await request.body())))(scope, receive, send)

    async def connect(self) -> "Client":
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> int:
        """Read one answer; return its status."""
        async with asyncio.timeout(SOON_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await self._reader.readexactly(length)
        return int(head.split()[1])

    async def take(self, most: int) -> bytes:
        """Read some of what came."""
        async with asyncio.timeout(SOON_S):
            return await self._reader.read(most)

    async def is_closed(self) -> bool:
        """Wait for the server's end of the connection."""
        async with asyncio.timeout(SOON_S):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read(1) == b""
        return True

    async def is_cut_off(self) -> bool:
        """Wait for the server's end of the connection, which may say why; False if it answered 200."""
        async with asyncio.timeout(SOON_S):
            with contextlib.suppress(ConnectionError):
                return not (await self._reader.read()).startswith(b"HTTP/1.1 200 ")
        return True

    async def trickle(self, byte: bytes) -> bool:
        """Send a byte again and again until the server closes the connection."""
        async with asyncio.timeout(SOON_S):
            with contextlib.suppress(ConnectionError):
                while not self._reader.at_eof():
                    await self.send(byte)
                    await asyncio.sleep(0.01)
        return True

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with listening() as port:
        pass
    ours = Server(port)
    options = UVICORN | {"http": Connection, "loop": "none"}
    running = uvicorn.Server(
        uvicorn.Config(ours.app, **options, host="127.0.0.1", port=port, lifespan="off", interface="asgi3", timeout_graceful_shutdown=1)
    )
    with contextlib.ExitStack() as stack:
        stack.callback(Connection._waiting.clear)
        task = asyncio.create_task(running._serve())
        while not running.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        yield ours
        ours.may_answer.set()
        for client in ours.clients:
            await client.close()
        running.should_exit = True
        await task


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_DEADLINE_S", 0.2)


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_says_nothing_is_left(server: Server) -> None:
    """Uvicorn itself would wait for ever for the first byte."""
    assert await (await server.connect()).is_closed()


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nX-Slow: ", b""])
async def test_a_byte_now_and_then_does_not_extend_the_deadline_of_a_head(server: Server, begun: bytes) -> None:
    """Also not blank lines before a request."""
    client = await server.connect()
    await client.send(begun)
    assert await client.trickle(b"a" if begun else b"\r\n")
    assert not server.asked.is_set()


@pytest.mark.usefixtures("hurried")
async def test_the_next_head_on_a_kept_connection_has_the_deadline_too(server: Server) -> None:
    client = await server.connect()
    await client.send(GET)
    assert await client.answer() == 200
    await client.send(b"GET")
    assert await client.trickle(b"a")


@pytest.mark.usefixtures("hurried")
async def test_a_request_that_is_being_answered_has_no_deadline_here(server: Server) -> None:
    """Nor has one whose client is already writing the next."""
    server.may_answer.clear()
    client = await server.connect()
    await client.send(GET + GET[:-3])
    await server.asked.wait()
    await asyncio.sleep(0.5)  # longer than the deadline
    server.may_answer.set()
    assert await client.answer() == 200
    await client.send(GET[-3:])
    assert await client.answer() == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * (HEAD_BYTES_MAX + 300_000),
        b"GET /" + b"a" * (HEAD_BYTES_MAX + 300_000),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    ],
)
async def test_a_head_without_end_is_refused(server: Server, head: bytes) -> None:
    """It is answered or cut off before it takes memory or time, complete or not."""
    client = await server.connect()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await client.send(head)
        assert await client.answer() == 400
    assert await client.is_closed()
    assert not server.asked.is_set()


@pytest.mark.parametrize("trailer", [b"X-Long: " + b"a" * (HEAD_BYTES_MAX + 600_000), b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n"])
async def test_what_follows_a_body_has_no_end_either(server: Server, trailer: bytes) -> None:
    """The parser keeps trailers as it keeps headers."""
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n")
    with contextlib.suppress(ConnectionError):
        await client.send(trailer)
    assert await client.is_cut_off()


async def test_a_body_is_no_head(server: Server) -> None:
    """Its size is the application's business, in one piece or in chunks, and so is the next request's."""
    client, body = await server.connect(), b"a" * 1_000_000
    for _ in range(2):
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + body)
        assert await client.answer() == 200
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n" + body + b"\r\n0\r\n\r\n")
        assert await client.answer() == 200


async def test_as_many_headers_as_are_allowed(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEADERS_MAX + b"\r\n")
    assert await client.answer() == 200


def _no_head(_: int) -> bytes:
    return b""


def _half_a_body(_: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"


def _half_of_each(number: int) -> bytes:
    return (_no_head, _half_a_body)[number % 2](number)


@pytest.mark.parametrize("sent", [_no_head, _half_a_body, _half_of_each])
async def test_too_many_connections_close_the_one_that_waited_longest(
    server: Server, monkeypatch: pytest.MonkeyPatch, sent: Callable[[int], bytes]
) -> None:
    """Those that are being answered stay, and so do the newest."""
    monkeypatch.setattr(Connection, "connections_max", 4)
    busy = await server.connect()
    server.may_answer.clear()
    await busy.send(GET)
    await server.asked.wait()
    server.may_answer.set()
    kept = await server.connect()
    await kept.send(GET)
    assert await kept.answer() == 200
    assert await busy.answer() == 200
    server.may_answer.clear()
    server.asked.clear()
    await busy.send(GET)
    await server.asked.wait()
    idle = []
    for number in range(6):
        idle.append(await server.connect())
        await idle[-1].send(sent(number))
    for client in (kept, *idle[:3]):
        assert await client.is_closed()
    server.may_answer.set()
    assert await busy.answer() == 200
    new = await server.connect()
    await new.send(GET)
    assert await new.answer() == 200


def test_the_limit_of_open_files_bounds_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is raised as far as it may be; beneath that are fewer connections."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    for limits, allowed, set_to in (
        ((1_024, 1_024), 768, [(1_024, 1_024)]),
        ((1_024, 3_000), 2_744, [(3_000, 3_000)]),
        ((1_024, 100_000), 4_096, [(4_352, 100_000)]),
        ((1_024, resource.RLIM_INFINITY), 4_096, [(4_352, resource.RLIM_INFINITY)]),
        ((100_000, 100_000), 4_096, []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 4_096, []),
        ((64, 64), 1, [(64, 64)]),
    ):
        given.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert connections_allowed() == allowed
        assert given == set_to


async def until_unread(count: int) -> None:
    """Wait until so many answers wait for their clients."""
    async with asyncio.timeout(SOON_S):
        while sum(each._unread is not None for each in Connection._waiting) != count:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def asking(server: Server, answer: bytes, count: int = 1) -> Client:
    """Return a client that has asked so often for an answer which waits for it."""
    server.answer = answer
    client = await server.connect()
    await client.send(GET * count)
    await until_unread(1)
    return client


async def test_a_client_that_does_not_take_its_answer_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is memory, and it would keep its place among the connections for good."""
    monkeypatch.setattr(connections, "UNREAD_DEADLINE_S", 0.3)
    greedy = await asking(server, b"a" * (64 << 20))
    async with asyncio.timeout(SOON_S):
        while Connection._waiting:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.IncompleteReadError):
        await greedy.answer()


@pytest.mark.parametrize("pipelined", [1, 2])
async def test_clients_that_take_nothing_keep_nobody_out(server: Server, monkeypatch: pytest.MonkeyPatch, pipelined: int) -> None:
    """They have waited for longest, so the next one has their place; who takes its answer late, but takes it, gets all of it."""
    monkeypatch.setattr(Connection, "connections_max", 2)
    greedy = await asking(server, b"a" * (64 << 20), pipelined)
    await greedy.send(GET)  # to ask for more is not to take anything
    late = await server.connect()
    await late.send(GET)
    await until_unread(2)
    server.answer = b"short"
    honest = await server.connect()
    await honest.send(GET)
    assert await honest.answer() == 200
    with pytest.raises(asyncio.IncompleteReadError):
        await greedy.answer()
    assert await late.answer() == 200


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for taking anything, not for the whole answer."""
    monkeypatch.setattr(connections, "UNREAD_DEADLINE_S", 0.2)
    slow = await asking(server, b"a" * (24 << 20))
    read, began = 0, asyncio.get_running_loop().time()
    while read < len(server.answer):
        piece = await slow.take(256 * 1024)
        assert piece
        read += len(piece)
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - began > 0.4
