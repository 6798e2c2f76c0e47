"""Ask a server in its own protocol whether it serves; a few bytes each, so that nothing has to be imported to wait for it."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator

_ANSWER_S = 5.0
_GROUP = b"ottla-ready"
_CQL_READY, _CQL_AUTHENTICATE = 0x02, 0x03


async def kafka_serves(port: int) -> bool:
    """Whether the broker can say who coordinates a consumer group, and gives an idempotent producer its id.

    More than an open port or metadata: for these answers the broker has been admitted by the controller, has made its topic of
    offsets, has elected a leader in it, and holds a block of producer ids, so that the first clients find all that they need.
    """
    # FindCoordinator (10), version 1: key, key type 0 for a group. InitProducerId (22), version 0: no transaction, timeout.
    # The error stands behind the correlation id and the throttle time in both answers; 0 is none.
    group = struct.pack(">h", len(_GROUP)) + _GROUP + b"\0"
    try:
        async with asyncio.timeout(_ANSWER_S), _connected(port) as (reader, writer):
            for kind, version, body in ((10, 1, group), (22, 0, struct.pack(">hi", -1, 1000))):
                request = struct.pack(">hhih5s", kind, version, 1, 5, b"ottla") + body
                writer.write(struct.pack(">i", len(request)) + request)
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                if struct.unpack_from(">iih", await reader.readexactly(size))[2]:
                    return False
    except (OSError, EOFError, TimeoutError, struct.error):
        return False
    return True


async def cassandra_serves(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> bool:
    """Whether the node takes a CQL client: it opens this port last, after it has joined its ring."""
    options = struct.pack(">hh11sh5s", 1, 11, b"CQL_VERSION", 5, b"3.0.0")
    # Protocol 4, no flags, stream 0, STARTUP (1); the answer's header: version, flags, stream, kind, then the length.
    frame = struct.pack(">BBhBi", 4, 0, 0, 1, len(options)) + options
    try:
        async with asyncio.timeout(_ANSWER_S), _connected(port, host, tls) as (reader, writer):
            writer.write(frame)
            header = await reader.readexactly(9)
    except (OSError, EOFError, TimeoutError):
        return False
    return header[4] in (_CQL_READY, _CQL_AUTHENTICATE)


@contextlib.asynccontextmanager
async def _connected(
    port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        yield reader, writer
    finally:
        if tls is not None:
            writer.transport.abort()  # else closing waits for the server to take its leave of TLS
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
