"""Users who write what real users wrote: numbered messages posted as signed webhooks, and their replies as they reach the platform."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import msgspec

from infra.bench.http_load import HttpLoad, request_bytes
from infra.demo.conversations import load_conversations
from infra.simulator.books import Arrival
from infra.simulator.freshen import ACCOUNT_DEFAULT
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.signing import sign
from infra.simulator.webhooks import text_body

PATH = "/webhooks/whatsapp"
FIRST_PHONE = 15_550_000_000
"""The number of the first conversation; the others follow."""

_LENGTH_MAX = 500
_AGAIN_S = 0.2


class _Text(msgspec.Struct):
    body: str = ""


class _Send(msgspec.Struct):
    text: _Text = msgspec.field(default_factory=_Text)


def real_texts() -> list[str]:
    """Return what real users wrote, in the order of the demo's conversations."""
    texts = [text for conversation in load_conversations() for burst in conversation.bursts for text in burst]
    return [text[:_LENGTH_MAX] for text in texts if text.strip() and text.isprintable()]


def webhook(phone: int, number: int, text: str, *, secret: bytes, at_s: int) -> bytes:
    """Return the request of one signed webhook with one text, which begins with its number."""
    body = text_body(account=ACCOUNT_DEFAULT, phone=str(phone), texts=[(f"wamid.bench.{number}", f"{number} {text}")], at_s=at_s)
    return request_bytes(PATH, body, sign(body, secret))


def number_of(body: bytes | msgspec.Raw) -> int | None:
    """Return the number of the message that a send answers (`echo: 17 hello` answers 17); None if it answers none of ours."""
    with suppress(msgspec.DecodeError, msgspec.ValidationError, ValueError, IndexError):
        return int(msgspec.json.decode(body, type=_Send).text.body.split(maxsplit=2)[1])
    return None


def webhooks(*, secret: bytes, conversations: int) -> Iterator[bytes]:
    """Yield webhooks without end, the conversations taking turns."""
    texts = itertools.cycle(real_texts())
    at_s = int(time.time())
    for number in itertools.count():
        yield webhook(FIRST_PHONE + number % conversations, number, next(texts), secret=secret, at_s=at_s)


class Users:
    """Posts messages through `load` and sees their replies arrive at `platform`; times are time.perf_counter seconds."""

    def __init__(self, platform: SimulatedPlatform, load: HttpLoad, *, secret: bytes) -> None:
        self._load = load
        self._secret = secret
        self._texts = itertools.cycle(real_texts())
        self._numbers = itertools.count()
        self._posted: dict[int, float] = {}
        self._answered: dict[int, float] = {}
        self._waiting: dict[int, asyncio.Future[float]] = {}
        platform.books.watchers.append(self._saw)

    def _saw(self, arrival: Arrival) -> None:
        number = number_of(arrival.body) if arrival.outcome == "accepted" else None
        if number is None or number not in self._posted or number in self._answered:
            return
        now = self._answered[number] = time.perf_counter()
        waiter = self._waiting.pop(number, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(now)

    def posted_at(self, number: int) -> float:
        """Return when the post of a message began."""
        return self._posted[number]

    async def post(self, conversation: int) -> int:
        """Post the next message of a conversation until it is stored, as the platform does; return its number."""
        number = next(self._numbers)
        request = webhook(FIRST_PHONE + conversation, number, next(self._texts), secret=self._secret, at_s=int(time.time()))
        self._posted[number] = time.perf_counter()
        while not await self._stored(request):  # noqa: ASYNC110  # it is the platform's way to ask again
            await asyncio.sleep(_AGAIN_S)
        return number

    async def _stored(self, request: bytes) -> bool:
        try:
            return await self._load.ask(request) == 200  # noqa: PLR2004
        except OSError:
            return False

    async def reply_to(self, number: int, *, patience_s: float) -> float:
        """Wait for a message's reply; return the seconds from its post. TimeoutError if it takes longer than `patience_s`."""
        if number not in self._answered:
            waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(patience_s):
                await waiter
        return self._answered[number] - self._posted[number]

    async def converse(self, conversation: int, *, patience_s: float) -> float:
        """Post one message and wait for its reply; return the seconds that took."""
        return await self.reply_to(await self.post(conversation), patience_s=patience_s)

    async def converse_for(self, seconds: float, *, conversations: int, patience_s: float) -> list[float]:
        """Have so many users write, wait for the reply and write again, for so long; return the time of each reply."""
        until = time.perf_counter() + seconds
        times: list[float] = []

        async def user(number: int) -> None:
            while time.perf_counter() < until:
                times.append(await self.converse(number, patience_s=patience_s))

        await asyncio.gather(*(user(number) for number in range(conversations)))
        return times

    async def post_at_rate(self, rate: float, *, seconds: float, conversations: int) -> list[int]:
        """Post at a steady rate whatever comes back, the conversations taking turns; return the numbers."""
        begun = time.perf_counter()
        posts = []
        for count in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + count / rate - time.perf_counter()))
            posts.append(asyncio.create_task(self.post(count % conversations)))
        return list(await asyncio.gather(*posts))

    @asynccontextmanager
    async def posting(self, rate: float, *, conversations: int) -> AsyncIterator[list[int]]:
        """Post at a steady rate while the context is open, the conversations taking turns; at its end the list has all numbers."""
        posts: list[asyncio.Task[int]] = []
        numbers: list[int] = []

        async def post_all() -> None:
            begun = time.perf_counter()
            for count in itertools.count():
                await asyncio.sleep(max(0.0, begun + count / rate - time.perf_counter()))
                posts.append(asyncio.create_task(self.post(count % conversations)))

        task = asyncio.create_task(post_all())
        try:
            yield numbers
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            numbers += await asyncio.gather(*posts)

    async def replies_to(self, numbers: list[int], *, patience_s: float) -> tuple[list[float], list[int]]:
        """Wait for the replies to all of these; return the seconds each took, and the numbers of those that did not come."""
        found = await asyncio.gather(*(self.reply_to(number, patience_s=patience_s) for number in numbers), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, TimeoutError):
                raise each
        return (
            [each for each in found if isinstance(each, float)],
            [number for number, each in zip(numbers, found, strict=True) if isinstance(each, TimeoutError)],
        )
