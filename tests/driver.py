"""Drives an installation from outside: posts conversations as webhooks, and judges by what arrived at the simulated platform."""

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

import aiohttp
import msgspec

from infra.simulator.books import Arrival
from infra.simulator.webhooks import text_body
from schemas.ids import conversation_key, key_hash, read_callback_data
from tests.installation import Outside

ACCOUNT = "106540352242922"


class _Text(msgspec.Struct):
    body: str


class Send(msgspec.Struct):
    to: str
    text: _Text
    biz_opaque_callback_data: str = ""


@dataclass
class Load:
    """So many conversations of so many messages each; `repeated` is the share of bodies that are posted a second time."""

    conversations: int
    messages: int
    repeated: float = 0.2
    connections: int = 64
    seed: int = 1
    first_phone: int = 15550000000

    def phone(self, conversation: int) -> str:
        """Return the phone number of a conversation."""
        return str(self.first_phone + conversation)

    def text(self, conversation: int, message: int) -> str:
        """Return a text that says which message it is."""
        return f"c{conversation} m{message}"


@dataclass
class Verdict:
    """What was wrong, by name; all empty when every message was answered once and in order."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    without_callback: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.doubled or self.reordered or self.without_callback)


class Driver:
    """Posts a load and reads the platform's books, of the load's own phones alone. `latencies_s` are those of the webhook requests."""

    def __init__(self, installation: Outside, load: Load) -> None:
        self._installation = installation
        self._load = load
        self._chance = random.Random(load.seed)
        self.latencies_s: list[float] = []
        self.posted = 0
        self._phones = {load.phone(conversation) for conversation in range(load.conversations)}
        self._sends: list[Send] = []
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._all_answered = asyncio.Event()
        installation.platform.books.watchers.append(self._saw)

    async def play(self) -> None:
        """Post everything: conversations side by side, each one's messages in order, each until it is taken."""
        todo: asyncio.Queue[int] = asyncio.Queue()
        for conversation in range(self._load.conversations):
            todo.put_nowait(conversation)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.connections):
                group.create_task(self._work(todo))

    async def _work(self, todo: asyncio.Queue[int]) -> None:
        while not todo.empty():
            conversation = todo.get_nowait()
            for message in range(self._load.messages):
                body = self._body(conversation, message)
                await self._post(body)
                if self._chance.random() < self._load.repeated:
                    await self._post(body)

    def _body(self, conversation: int, message: int) -> bytes:
        text = self._load.text(conversation, message)
        phone = self._load.phone(conversation)
        return text_body(account=ACCOUNT, phone=phone, texts=[(f"wamid.{phone}.{message}", text)], at_s=int(time.time()))

    async def _post(self, body: bytes) -> None:
        """Post until it is answered 200, as the platform does."""
        while True:
            started = time.perf_counter()
            try:
                status = await self._installation.post(body)
            except (OSError, aiohttp.ClientError):
                status = 0
            self.latencies_s.append(time.perf_counter() - started)
            self.posted += 1
            if status == 200:
                return
            assert status in {0, 503}, f"a webhook was answered {status}"
            await asyncio.sleep(0.2)

    async def answered(self, *, timeout_s: float) -> None:
        """Wait until every message has an answer; does not raise when some never come, the verdict names them."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_answered.wait()
        except TimeoutError:
            return

    def _saw(self, arrival: Arrival) -> None:
        if arrival.outcome != "accepted":
            return
        send = msgspec.json.decode(arrival.body, type=Send)
        if send.to not in self._phones:
            return
        self._sends.append(send)
        self._counts[send.to, send.text.body] += 1
        if len(self._counts) >= self._load.conversations * self._load.messages:
            self._all_answered.set()

    def missing(self) -> list[tuple[str, str]]:
        """Return phone and text of every answer that has not arrived."""
        load = self._load
        return [
            (load.phone(conversation), text)
            for conversation in range(load.conversations)
            for text in self._wanted(conversation)
            if not self._counts[load.phone(conversation), text]
        ]

    def verdict(self) -> Verdict:
        """Judge what has arrived."""
        verdict = Verdict()
        order: dict[str, list[str]] = defaultdict(list)
        for send in self._sends:
            order[send.to].append(send.text.body)
            if not _is_ours(send):
                verdict.without_callback.append(send.text.body)
        for conversation in range(self._load.conversations):
            phone = self._load.phone(conversation)
            counts = {text: self._counts[phone, text] for text in self._wanted(conversation)}
            verdict.lost += [text for text, count in counts.items() if not count]
            verdict.doubled += [text for text, count in counts.items() if count > 1]
            if list(dict.fromkeys(order[phone])) != [text for text, count in counts.items() if count]:
                verdict.reordered.append(phone)
        return verdict

    def _wanted(self, conversation: int) -> list[str]:
        return [f"echo: {self._load.text(conversation, message)}" for message in range(self._load.messages)]


def _is_ours(send: Send) -> bool:
    known = read_callback_data(send.biz_opaque_callback_data)
    conversation = conversation_key(channel="wa", account=ACCOUNT, contact=send.to)
    return known is not None and known[1] == key_hash(conversation.encode())
