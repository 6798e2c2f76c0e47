"""infra.post_client: requests over kept connections, whole answers, and no doubt about whether something left."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.post_client import ANSWER_BYTES_MAX, ClosedError, Connection, LostError, PostClient, Reply

CERTIFICATES = Path(__file__).parent / "tls"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request with the next of some answers, in the pieces they are given in; an empty piece closes the connection."""

    def __init__(self, *answers: Sequence[bytes]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(size))
                for piece in self._answers.pop(0):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)  # so that it is read as a piece
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def client_of(server: Server, *, connections_max: int = 4, idle_s: float = 10.0) -> AsyncIterator[PostClient]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = PostClient(f"http://127.0.0.1:{port}/v1", connections_max=connections_max, idle_s=idle_s, connect_s=5.0)
    try:
        yield client
    finally:
        client.close()
        listening.close()


async def post(client: PostClient, body: bytes = b"[]", before: Callable[[Connection], Awaitable[None]] | None = None) -> Reply:
    async with asyncio.timeout(30), client.connection() as connection:
        if before is not None:
            await before(connection)
        connection.write(client.request("1/messages", body, token="a-token"))
        return await connection.answer()


async def test_a_request_and_its_answer() -> None:
    """The request is a POST of JSON with the token; the answer has status, headers by their names in lower case, and body."""
    server = Server([OK])
    async with client_of(server) as client:
        assert await post(client, b'{"a":1}') == (200, {"content-type": "application/json", "content-length": "2"}, b"{}")
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == "POST /v1/1/messages HTTP/1.1"
    assert {"Authorization: Bearer a-token", "Content-Type: application/json", "Content-Length: 7"} <= set(headers)
    assert [each for each in headers if each.startswith("Host: 127.0.0.1:")]
    assert body == b'{"a":1}'


async def test_a_connection_is_kept() -> None:
    """One after the other go over the same connection."""
    server = Server(*[[OK]] * 3)
    async with client_of(server) as client:
        for _ in range(3):
            await post(client)
    assert server.connections == 1


async def test_no_more_connections_than_allowed() -> None:
    """Who finds no room waits for it."""
    server = Server(*[[OK]] * 20)
    async with client_of(server, connections_max=3) as client:
        await asyncio.gather(*(post(client) for _ in range(20)))
    assert server.connections <= 3


@pytest.mark.parametrize(
    "pieces",
    [
        [OK[:20], OK[20:-1], OK[-1:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        [b"HTTP/1.1 200 OK\r\n\r\n{", b"}", b""],
    ],
    ids=["in pieces", "chunked", "after an informational one", "to the end of the connection"],
)
async def test_an_answer_is_read_whole(pieces: Sequence[bytes]) -> None:
    """However it comes, all of it is there."""
    async with client_of(Server(pieces)) as client:
        reply = await post(client)
    assert (reply.status, reply.body) == (200, b"{}")


async def test_of_a_long_answer_the_beginning_is_read() -> None:
    """A page without end takes no more memory than that."""
    long = b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\n\r\n" % (ANSWER_BYTES_MAX + 10) + b"x" * (ANSWER_BYTES_MAX + 5)
    server = Server([long], [OK])
    async with client_of(server) as client:
        assert await post(client) == (502, {"content-length": str(ANSWER_BYTES_MAX + 10)}, b"x" * ANSWER_BYTES_MAX)
        assert (await post(client)).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("pieces", [[b""], [OK[:-1], b""], [b"nothing of the sort"]], ids=["none", "cut off", "no HTTP"])
async def test_what_is_no_whole_answer_is_lost(pieces: Sequence[bytes]) -> None:
    """It may have arrived, so nobody may take it for unsent; the next request has a connection of its own."""
    async with client_of(Server(pieces, [OK])) as client:
        with pytest.raises(LostError):
            await post(client)
        assert (await post(client)).status == 200


async def test_over_a_connection_that_was_closed_nothing_leaves() -> None:
    """Closed by the other side before the write: that is said, and that nothing has left."""
    server = Server([OK], [OK])
    async with client_of(server) as client:
        await post(client)

        async def closed(connection: Connection) -> None:
            server.writers[0].close()
            async with asyncio.timeout(10):
                while not connection.is_closed:  # noqa: ASYNC110  # a transport tells nobody but its protocol
                    await asyncio.sleep(0.001)

        with pytest.raises(ClosedError):
            await post(client, before=closed)
        assert len(server.requests) == 1
        assert (await post(client)).status == 200


async def test_what_was_idle_for_long_is_not_used() -> None:
    """The other side may close it just then."""
    server = Server([OK], [OK])
    async with client_of(server, idle_s=0.05) as client:
        await post(client)
        await asyncio.sleep(0.1)
        await post(client)
    assert server.connections == 2


async def test_a_second_answer_is_nobodys() -> None:
    """Whoever asks next gets its own answer, over another connection."""
    server = Server([OK + OK.replace(b"200", b"500")], [OK])
    async with client_of(server) as client:
        assert [(await post(client)).status for _ in range(2)] == [200, 200]
    assert server.connections == 2


async def test_a_server_that_wants_to_close_is_obeyed() -> None:
    """Nothing follows over a connection that the answer says will be closed."""
    server = Server([OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], [OK])
    async with client_of(server) as client:
        assert [(await post(client)).status for _ in range(2)] == [200, 200]
    assert server.connections == 2


async def test_who_gives_up_leaves_no_answer_to_others() -> None:
    """An answer that comes after its asker went does not become the next one's."""
    server = Server([b"HTTP/1.1 500 Bad\r\n"], [OK])
    async with client_of(server) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await post(client)
        assert (await post(client)).status == 200
    assert server.connections == 2


async def test_nobody_listens() -> None:
    """That the server cannot be reached is an OSError, and there is room for the next one."""
    listening = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    client = PostClient(f"http://127.0.0.1:{port}", connections_max=1, idle_s=1.0, connect_s=1.0)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await post(client)


async def test_tls_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves to a server that cannot show who it is; to one that can, it does."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    server = Server([OK])
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=own)
    url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    with pytest.raises(ssl.SSLCertVerificationError):
        await post(PostClient(url, connections_max=1, idle_s=1.0, connect_s=5.0))
    trusting = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    client = PostClient(url, connections_max=1, idle_s=1.0, connect_s=5.0)
    assert (await post(client)).status == 200
    client.close()
    listening.close()
    assert len(server.requests) == 1


def test_control_characters_fit_into_no_header() -> None:
    """A token with a line's end in it would be a header of its own."""
    client = PostClient("https://example.com/v1", connections_max=1, idle_s=1.0, connect_s=1.0)
    with pytest.raises(ValueError, match="control"):
        client.request("1/messages", b"{}", token="a\r\nX: y")
