"""An HTTP/1.1 client for one thing: POST requests to one server over kept connections, with a say in when exactly the bytes leave.

Whoever posts takes a connection, does what must be done before the request leaves, writes it, and reads the answer. A general client
costs several times the processor time for each request, and does not show the moment of the write (infra/decisions/0021-post-client.md).
It follows no redirects, keeps no cookies, asks for no compression and takes no proxy from the environment.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY
from types import TracebackType
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
from aiohappyeyeballs import start_connection

ANSWER_BYTES_MAX = 1 << 20
"""Of a longer answer only so much is read."""

_SECOND_ADDRESS_S = 0.25
_INFORMATIONAL = range(100, 200)
_HEADS_MAX = 4_096
_CONTROL = frozenset(map(chr, (*range(32), 127)))


class ClosedError(ConnectionError):
    """The connection was closed before the request was written: nothing has left."""


class LostError(ConnectionError):
    """The connection ended before the whole answer was there, or what came is no answer."""


class Reply(NamedTuple):
    """An answer; names of headers are in lower case, and of several with one name the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection, good for one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size = 0
        self._has_head = False
        self.idle_since = 0.0
        self.is_reusable = True
        """Whether another request may follow: the last one was answered whole, and nobody wants to close."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport is None or self._transport.is_closing()

    def write(self, request: bytes) -> None:
        """Let a request leave; ClosedError, and nothing has left, if the connection was closed meanwhile."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ClosedError("closed by the other side")
        self.is_reusable = False
        self._waiter = asyncio.get_running_loop().create_future()
        transport.write(request)

    async def answer(self) -> Reply:
        """Wait for the answer to what was written; LostError if it does not come whole."""
        if self._waiter is None:
            raise RuntimeError("nothing was asked")
        return await self._waiter

    def close(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, though not by its class

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer."""
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked: whatever it says, the next answer could be taken for another one's
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._lose(f"not HTTP: {error}")

    def eof_received(self) -> None:
        """Make an end: the other side will say no more."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make an end."""
        self._end(str(exc) if exc is not None else "")
        self._transport = None

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._waiter is None or self._waiter.done():
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that the head is there."""
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body; of what is too long the beginning is all there is."""
        self._chunks.append(body)
        self._size += len(body)
        if self._size > ANSWER_BYTES_MAX:
            self._give()
            self.close()

    def on_message_complete(self) -> None:
        """Hand out the answer; an informational one only comes before it."""
        if self._parser.get_status_code() in _INFORMATIONAL:
            self._forget()
            return
        self.is_reusable = self._parser.should_keep_alive()
        self._give()

    def _end(self, why: str = "") -> None:
        """Make an answer of what came where its end is that of the connection; otherwise it is lost."""
        if self._has_head and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self._give()
        else:
            self._lose(f"closed by the other side {why}".strip())

    def _give(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            body = b"".join(self._chunks)[:ANSWER_BYTES_MAX]
            self._waiter.set_result(Reply(self._parser.get_status_code(), self._headers, body))
        self._forget()

    def _forget(self) -> None:
        self._headers, self._chunks, self._size, self._has_head = {}, [], 0, False

    def _lose(self, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(LostError(why))
        self.close()


class PostClient:
    """Connections to the server of a base URL, at most `connections_max`; one that was idle for `idle_s` seconds is not used again.

    The other side may close such a one just as we write, and then nobody knows whether the request arrived.
    """

    def __init__(self, base_url: str, *, connections_max: int, idle_s: float, connect_s: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an HTTP URL: {base_url}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        self._named = parts.netloc.rpartition("@")[2]
        self._idle_s = idle_s
        self._connect_s = connect_s
        self._room = asyncio.Semaphore(connections_max)
        self._idle: deque[Connection] = deque()
        self._heads: dict[tuple[str, str], bytes] = {}

    def request(self, path: str, body: bytes, *, token: str) -> bytes:
        """Return a request with a JSON body as it goes over the wire; an empty token is left out.

        Raises ValueError for a path or a token that fits into no header.
        """
        head = self._heads.get((path, token))
        if head is None:
            if not _CONTROL.isdisjoint(path + token):
                raise ValueError("a path or a token with control characters")
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            authorization = f"Authorization: Bearer {token}\r\n" if token else ""
            head = self._heads[path, token] = (
                f"POST {self._path}/{path} HTTP/1.1\r\nHost: {self._named}\r\nUser-Agent: ottla\r\nAccept: */*\r\n"
                f"{authorization}Content-Type: application/json\r\nContent-Length: "
            ).encode()
        return b"%s%d\r\n\r\n%s" % (head, len(body), body)

    def connection(self) -> "_Borrowed":
        """Return a connection to be entered with `async with`: an idle one, or a new one as soon as there is room for it.

        Entering raises OSError if the server cannot be reached, and TimeoutError if that takes too long.
        """
        return _Borrowed(self)

    async def take(self) -> Connection:
        """Take a connection; see `connection`."""
        await self._room.acquire()
        try:
            self._close_old()
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed:
                    return connection
            async with asyncio.timeout(self._connect_s):
                return await self._connected()
        except BaseException:
            self._room.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Give a connection back; it is closed unless the next one may use it."""
        self._room.release()
        if connection.is_reusable and not connection.is_closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _close_old(self) -> None:
        old = time.monotonic() - self._idle_s
        while self._idle and self._idle[0].idle_since < old:
            self._idle.popleft().close()

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(self._host, self._port, type=SOCK_STREAM)
        socket = await start_connection(addresses, happy_eyeballs_delay=_SECOND_ADDRESS_S, loop=loop)
        try:
            socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            server = self._host if self._tls is not None else None
            _, connection = await loop.create_connection(Connection, sock=socket, ssl=self._tls, server_hostname=server)
        except BaseException:
            socket.close()
            raise
        return connection


class _Borrowed:
    """A connection for the time of a `with`."""

    def __init__(self, client: PostClient) -> None:
        self._client = client
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._client.take()
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        if self._connection is not None:
            self._client.give_back(self._connection)
