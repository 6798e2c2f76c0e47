"""Hostile clients of the ingress, as a program: `python -m infra.bench.hostile PORT IDLE SLOW KIND...`, told how many seconds.

Each kind is one way to hurt a server, bounded in number and time, and posts to loopback only. The program lets others go first: real
clients of this sort would not run on the machine. OTTLA_WHATSAPP_APP_SECRET signs what is to get past the signature.
"""

import asyncio
import itertools
import os
import resource
import sys
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from infra.bench.floors.told import Work, do_as_told
from infra.bench.http_load import request_bytes
from infra.bench.users import PATH
from infra.simulator.signing import SIGNATURE_HEADER, sign
from schemas.topics import BODY_BYTES_MAX, MIB

_NICE = 10
_OTHER_FILES = 200
_BYTE_S = 1.0
_ANSWER_S = 30.0
_DEEP = 100_000
_FORGED = {SIGNATURE_HEADER: "sha256=" + "0" * 64}
_ENVELOPE = b'{"object":"whatsapp_business_account","entry":['


@dataclass(kw_only=True)
class Attack:
    """Where to, with what secret, how many connections that say nothing, and how many slow clients; `opened` connections so far."""

    port: int
    secret: bytes
    idle: int
    slow: int
    opened: int = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; OSError if the server refuses it."""
        streams = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened += 1
        return streams


Kind = Callable[[Attack], Coroutine[Any, Any, None]]


def connections_possible(wanted: int) -> int:
    """Return how many connections this process can open of those wanted; raises its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft not in (resource.RLIM_INFINITY, hard) and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(0, min(wanted, soft - _OTHER_FILES))


async def slow_heads(attack: Attack) -> None:
    """Send a head at a byte a second."""
    await _trickled(attack, b"POST %s HTTP/1.1\r\nHost: bench\r\n" % PATH.encode())


async def slow_bodies(attack: Attack) -> None:
    """Announce a body's right length and send it at a byte a second."""
    await _trickled(attack, request_bytes(PATH, b"", _FORGED).replace(b"Content-Length: 0", b"Content-Length: 1000"))


async def idle_connections(attack: Attack) -> None:
    """Open many connections and say nothing; open them again when they are closed."""

    async def one() -> None:
        reader, writer = await attack.connect()
        try:
            await reader.read(1)
        finally:
            writer.close()

    await _at_once(attack.idle, lambda: _again(one, pause_s=_BYTE_S))


async def bombs(attack: Attack) -> None:
    """Post bodies of 2 MB that unpack to 2 GiB, with a good signature and with a forged one."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    member = packed.compress(bytes(16 * MIB)) + packed.flush()
    bomb = member * 128  # members one after the other are one file
    headers = {"Content-Encoding": "gzip"}
    requests = [request_bytes(PATH, bomb, {**signed, **headers}) for signed in (sign(bomb, attack.secret), _FORGED)]
    await _posted(attack, requests, clients=4, pause_s=0.5)


async def deep_json(attack: Attack) -> None:
    """Post signed JSON of 100,000 levels."""
    bodies = [b"[" * _DEEP + b"]" * _DEEP, _ENVELOPE + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"]}"]
    await _posted(attack, _signed(attack, bodies), clients=2, pause_s=0.5)


async def huge_json(attack: Attack) -> None:
    """Post signed JSON of just under 4 MiB: numbers, objects of one member, 10,000 messages that are all of different people."""
    people = b",".join(b'{"from":"%d","id":"a","text":"%s"}' % (number, b"a" * 350) for number in range(10_000))
    messages = b'{"id":"1","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"1"},"messages":['
    bodies = [filled(_ENVELOPE, b"0,", b"0]}"), filled(_ENVELOPE, b'{"a":1},', b"0]}"), _ENVELOPE + messages + people + b"]}}]}]}"]
    await _posted(attack, _signed(attack, bodies), clients=2, pause_s=0.5)


async def wrong_lengths(attack: Attack) -> None:
    """Post bodies that are longer or shorter than announced, of a negative length, and of two lengths."""
    body = b'{"object":"whatsapp_business_account"}'
    request, length = request_bytes(PATH, body, sign(body, attack.secret)), b"Content-Length: %d" % len(body)
    wrong = (b"9", b"4000", b"-1", b"1e9", b"%d\r\nContent-Length: 4000" % len(body))
    requests = [request.replace(length, b"Content-Length: " + each) for each in wrong]
    await _posted(attack, requests, clients=10, pause_s=0.2, patience_s=1.0)


async def too_large(attack: Attack) -> None:
    """Post 5 MiB, announced, and in chunks of which nobody knows how many there are."""
    body = b" " * (BODY_BYTES_MAX + MIB)
    head = request_bytes(PATH, b"", _FORGED).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    await _posted(attack, [request_bytes(PATH, body, _FORGED), head + b"%x\r\n" % len(body) + body], clients=2, pause_s=0.5)


async def large_heads(attack: Attack) -> None:
    """Post heads of 50,000 lines, and of one line of a megabyte."""
    requests = [b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000, b"POST / HTTP/1.1\r\na: " + b"a" * MIB]
    await _posted(attack, requests, clients=4, pause_s=0.2)


async def unsigned(attack: Attack) -> None:
    """Post some hundreds a second with a forged signature, each over a connection of its own, and some of nearly 4 MiB."""
    small, large = (request_bytes(PATH, b" " * size, _FORGED) for size in (500, BODY_BYTES_MAX - 1))
    async with asyncio.TaskGroup() as group:
        group.create_task(_posted(attack, [small], clients=16, pause_s=0.05))
        group.create_task(_posted(attack, [large], clients=4, pause_s=0.5))


KINDS: dict[str, Kind] = {
    "slow heads": slow_heads,
    "slow bodies": slow_bodies,
    "idle connections": idle_connections,
    "compressed bombs": bombs,
    "deep JSON": deep_json,
    "huge JSON": huge_json,
    "wrong lengths": wrong_lengths,
    "too large bodies": too_large,
    "large heads": large_heads,
    "unsigned": unsigned,
}


def filled(begin: bytes, unit: bytes, end: bytes) -> bytes:
    """Return a body of just under 4 MiB, mostly of one unit again and again."""
    return begin + unit * ((BODY_BYTES_MAX - len(begin) - len(end)) // len(unit)) + end


def _signed(attack: Attack, bodies: Sequence[bytes]) -> list[bytes]:
    return [request_bytes(PATH, body, sign(body, attack.secret)) for body in bodies]


async def _trickled(attack: Attack, begin: bytes) -> None:
    """Send the beginning of a request and then a byte a second, over many connections."""

    async def one() -> None:
        _, writer = await attack.connect()
        try:
            writer.write(begin)
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(_BYTE_S)
        finally:
            writer.close()

    await _at_once(attack.slow, lambda: _again(one, pause_s=_BYTE_S))


async def _posted(attack: Attack, requests: Sequence[bytes], *, clients: int, pause_s: float, patience_s: float = _ANSWER_S) -> None:
    """Post the requests in turns, each over a connection of its own, until it is answered or closed."""
    turns: Iterator[bytes] = itertools.cycle(requests)

    async def one() -> None:
        reader, writer = await attack.connect()
        try:
            async with asyncio.timeout(patience_s):
                writer.write(next(turns))
                await reader.read(1)
        finally:
            writer.transport.abort()

    await _at_once(clients, lambda: _again(one, pause_s=pause_s))


async def _again(one: Callable[[], Coroutine[Any, Any, None]], *, pause_s: float) -> None:
    """Do it again and again; a server that closes the connection or refuses it is what was to be expected."""
    while True:
        with suppress(OSError, TimeoutError):
            await one()
        await asyncio.sleep(pause_s)


async def _at_once(count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())


async def _open() -> Work:
    os.nice(_NICE)
    port, idle, slow, *kinds = sys.argv[1:]
    secret = os.environ["OTTLA_WHATSAPP_APP_SECRET"].encode()
    attack = Attack(port=int(port), secret=secret, idle=connections_possible(int(idle)), slow=int(slow))

    async def work(seconds: float) -> int:
        before = attack.opened
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for kind in kinds:
                    group.create_task(KINDS[kind](attack))
        return attack.opened - before

    return work


if __name__ == "__main__":
    do_as_told(_open)
