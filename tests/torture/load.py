"""The load of a fault run: real conversations posted over HTTP as the platform would, and what the platform saw of it, written down.

Conversations go side by side; in each of them a message is posted only after the one before it was stored. What is refused is posted again
until it is taken or the play is stopped. Beside questions there are reactions and other things that nobody answers, statuses of unknown
messages, items that cannot be handled, bodies of several conversations and accounts, one very large one, and bodies that come again.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from infra.demo.conversations import load_conversations
from infra.demo.player import ACCOUNTS
from infra.simulator.books import Arrival
from infra.simulator.freshen import DISPLAY_NUMBER, fresh_id
from infra.simulator.poster import Update
from infra.simulator.signing import dump
from infra.simulator.statuses import business_account_id, user_id_of
from schemas.ids import conversation_key, event_id, read_callback_data, send_id
from tests.installation import Outside
from tests.torture.history import Effect, HistoryWriter, Posted, Refused, Status, Stored

_FIRST_PHONE = 15_550_000_000
_WITHOUT_PHONE = 10  # one conversation in so many has a user id alone
_BURST_SHARE, _BURST = 0.3, (2, 3)  # messages of one person in one body
_TOGETHER = (2, 6)  # conversations in one body
_LARGE_CONVERSATIONS = 100
_TEN_TIMES_SHARE = 0.1  # of the bodies that come again
_LATER_MAX = 200
_STRANGE_STATUS_SHARE = 0.02
_POST_S, _PROBE_S = 15.0, 1.0
_PAUSE_S, _PAUSE_MAX_S = 0.1, 2.0
_LOOK_AGAIN_S = 1.0
_GIVEN_UP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """So many distinct messages (`events`) in so many conversations, from a seed.

    Shares: `repeated` of the bodies come again, at once or later, one in ten of these ten times; `noise` of the messages is nothing that
    anybody answers; `poison` of the bodies hold an item that cannot be handled; `together` are of several conversations. One body has
    `large_body` items, a bad one among them. `rate` is events per second, 0 for as fast as they are answered: there are never much
    more than `inflight_max` that wait for an answer, of which those do not count that have waited for a minute.
    """

    events: int
    conversations: int
    seed: int
    repeated: float = 0.1
    noise: float = 0.1
    poison: float = 0.01
    together: float = 0.05
    large_body: int = 1_000
    rate: float = 0.0
    inflight_max: int = 500
    connections: int = 64


class _Talker:
    """Somebody who writes: in one conversation, to one account."""

    def __init__(self, number: int, texts: Sequence[str]) -> None:
        phone = str(_FIRST_PHONE + number)
        self.account = ACCOUNTS[number % len(ACCOUNTS)]
        self.has_phone = number % _WITHOUT_PHONE != 0
        self.address = phone if self.has_phone else user_id_of(phone)
        self.key = conversation_key(channel="wa", account=self.account, contact=self.address)
        self.texts = itertools.cycle(texts)

    @property
    def contact(self) -> dict[str, object]:
        if self.has_phone:
            return {"profile": {"name": self.address}, "wa_id": self.address, "user_id": user_id_of(self.address)}
        return {"profile": {"name": "Ottla", "username": "ottla.user"}, "user_id": self.address}


class _Message(NamedTuple):
    """An item of `messages[]`, where it belongs and how it may be answered."""

    id: str
    conversation: str
    account: str
    answer: str
    item: dict[str, Any]


class _Body(NamedTuple):
    data: bytes
    messages: Sequence[_Message]


class _Due(NamedTuple):
    """Since when a message waits for an answer (seconds of the monotonic clock), and the ids that one may have."""

    since: float
    sends: tuple[str, ...]


class Play:
    """Plays a load once and writes the history of it; a context manager, in which arrivals and statuses are written, too.

    `rate` may be changed while it plays.
    """

    def __init__(self, load: Load, *, outside: Outside, writer: HistoryWriter) -> None:
        assert outside.platform.poster is not None
        self._load = load
        self._outside = outside
        self._platform, self._poster = outside.platform, outside.platform.poster
        self._writer = writer
        self._chance = random.Random(load.seed)
        self._token = f"{load.seed}"
        self._bodies, self._ids = itertools.count(1), itertools.count(1)
        texts = [[text for burst in each.bursts for text in burst if text.strip()] for each in load_conversations()]
        self._talkers = [_Talker(number, texts[number % len(texts)]) for number in range(load.conversations)]
        self._by_address = {(talker.account, talker.address): talker for talker in self._talkers}
        self._ready: asyncio.Queue[_Talker] = asyncio.Queue()
        self._later: list[_Body] = []
        self._planned = 0
        self._large_due = load.large_body > 0
        self._due: dict[str, _Due] = {}
        self._waiting_long: dict[str, _Due] = {}
        self._message_of: dict[str, str] = {}
        self._arrived, self._stopped = asyncio.Event(), asyncio.Event()
        self._next_at = 0.0
        self.rate = load.rate
        self.stored = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._platform.books.watchers.append(self._saw)
        self._poster.watchers.append(self._told)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._platform.books.watchers.remove(self._saw)
        self._poster.watchers.remove(self._told)

    @property
    def conversations(self) -> list[str]:
        """The keys of all conversations."""
        return [talker.key for talker in self._talkers]

    @property
    def unanswered(self) -> int:
        """How many messages that were posted wait for an answer."""
        return len(self._due) + len(self._waiting_long)

    @property
    def in_flight(self) -> int:
        """How many of these have not waited for a minute yet."""
        while self._due:
            message, due = next(iter(self._due.items()))
            if due.since > time.monotonic() - _GIVEN_UP_S:
                break
            self._waiting_long[message] = self._due.pop(message)
        return len(self._due)

    async def run(self) -> None:
        """Post until all events are stored, or until `stop`."""
        for talker in self._talkers:
            self._ready.put_nowait(talker)
        self._next_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._load.connections, len(self._talkers))):
                group.create_task(self._work())

    def stop(self) -> None:
        """End the run; bodies that are not stored by now are given up."""
        self._stopped.set()

    async def probe(self) -> None:
        """Post something that nobody answers once, also while the load waits; it is in the history if it was stored."""
        if await self._post(self._strange_status(), timeout_s=_PROBE_S) == 200:
            self._writer.write(Stored(at=time.time(), body=next(self._bodies)))

    async def rest(self, *, quiet_s: float = 20.0, timeout_s: float = 300.0) -> bool:
        """Wait until all is answered, or nothing arrived for `quiet_s`, and all statuses are told; False if `timeout_s` were not enough."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.unanswered:
                    self._arrived.clear()
                    try:
                        async with asyncio.timeout(quiet_s):
                            await self._arrived.wait()
                    except TimeoutError:
                        break
                await self._poster.wait_until_idle(timeout_s=timeout_s)
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        while not self._is_over:
            await self._wait_for_room()
            if self._chance.random() < _STRANGE_STATUS_SHARE:
                await self._deliver(_Body(self._strange_status(), ()))
            if self._later and (len(self._later) >= _LATER_MAX or self._chance.random() < self._load.repeated):
                await self._deliver(self._later.pop(self._chance.randrange(len(self._later))), repeat=True)
            await self._converse()
        while self._later and not self._stopped.is_set():
            await self._deliver(self._later.pop(), repeat=True)

    @property
    def _is_over(self) -> bool:
        return self._stopped.is_set() or self._planned >= self._load.events

    async def _converse(self) -> None:
        talkers = [await self._ready.get()]
        try:
            if self._is_over:
                return
            body = self._next_body(talkers)
            if await self._deliver(body):
                self.stored += len(body.messages)
                await self._repeat(body)
        finally:
            for talker in talkers:
                self._ready.put_nowait(talker)

    async def _wait_for_room(self) -> None:
        while self.in_flight >= self._load.inflight_max and not self._stopped.is_set():
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._arrived.wait()
        while self.rate and (left_s := self._next_at - time.monotonic()) > 0 and not self._stopped.is_set():
            await self._pause(min(left_s, _LOOK_AGAIN_S))

    async def _pause(self, seconds: float) -> None:
        """Wait so long, less if the play is stopped."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopped.wait()

    async def _repeat(self, body: _Body) -> None:
        if self._chance.random() >= self._load.repeated:
            return
        times = 9 if self._chance.random() < _TEN_TIMES_SHARE else 1
        if self._chance.random() < 0.5:
            self._later += [body] * times
            return
        for _ in range(times):
            await self._deliver(body, repeat=True)

    async def _deliver(self, body: _Body, *, repeat: bool = False) -> bool:
        """Post a body until it is answered 200; False if the play is stopped before."""
        number = next(self._bodies)
        for message in body.messages:
            self._writer.write(
                Posted(
                    at=time.time(),
                    body=number,
                    message=message.id,
                    conversation=message.conversation,
                    answer=message.answer,
                    repeat=repeat,
                )
            )
        pause_s = _PAUSE_S
        while not self._stopped.is_set():
            status = await self._post(body.data)
            if status == 200:
                self._writer.write(Stored(at=time.time(), body=number))
                return True
            self.refused += 1
            self._writer.write(Refused(at=time.time(), body=number, status=status))
            await self._pause(pause_s * self._chance.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        return False

    async def _post(self, data: bytes, *, timeout_s: float = _POST_S) -> int:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._outside.post(data)
        except (OSError, aiohttp.ClientError):
            return 0

    def _next_body(self, talkers: list[_Talker]) -> _Body:
        """Return a body of the first of these conversations, or of others, too, which are then added."""
        load, room = self._load, self._load.events - self._planned
        size = self._chance.randint(*_BURST) if self._chance.random() < _BURST_SHARE else 1
        is_large = self._large_due and self._planned >= load.events // 2
        if is_large:
            self._large_due = False
            size = load.large_body - 1
            talkers += self._others(_LARGE_CONVERSATIONS)
        elif self._chance.random() < load.together:
            talkers += self._others(self._chance.randint(*_TOGETHER) - 1)
            size *= len(talkers)
        messages = [self._message(talker) for talker in itertools.islice(itertools.cycle(talkers), min(size, room))]
        if is_large or self._chance.random() < load.poison:
            messages.insert(self._chance.randrange(len(messages) + 1), self._poison(talkers[0]))
        self._planned += len(messages)
        if self.rate:
            self._next_at = max(self._next_at, time.monotonic() - 1) + len(messages) / self.rate
        return _Body(_dump(messages, talkers), messages)

    def _others(self, count: int) -> list[_Talker]:
        return [self._ready.get_nowait() for _ in range(min(count, self._ready.qsize()))]

    def _message(self, talker: _Talker) -> _Message:
        item = self._item(talker)
        answer = "text"
        if self._chance.random() < self._load.noise:
            answer = "none"
            item |= self._chance.choice(
                (
                    {"type": "reaction", "reaction": {"message_id": fresh_id(self._token, -1), "emoji": "\U0001f44d"}},
                    {"type": "unsupported", "errors": [{"code": 131051, "title": "Message type unknown"}]},
                    {"type": "hologram", "hologram": {"body": "nobody knows this kind yet"}},
                    {"type": "text", "text": {"body": "  "}},
                )
            )
        message = _Message(item["id"], talker.key, talker.account, answer, item)
        if answer == "text":
            self._expect(message)
        return message

    def _item(self, talker: _Talker) -> dict[str, Any]:
        return {
            "from" if talker.has_phone else "from_user_id": talker.address,
            "id": fresh_id(self._token, next(self._ids)),
            "timestamp": str(int(time.time())),
            "type": "text",
            "text": {"body": next(talker.texts)},
        }

    def _poison(self, talker: _Talker) -> _Message:
        """Return an item that cannot be handled: nobody wrote it, or it holds half a character, which no decoder of ours reads."""
        item = self._item(talker)
        if self._chance.random() < 0.5:
            del item["from" if talker.has_phone else "from_user_id"]
            nobody = conversation_key(channel="wa", account=talker.account, contact="")
            return _Message(item["id"], nobody, talker.account, "dead-letter", item)
        item["text"] = {"body": "half a character: \ud83d"}
        return _Message(item["id"], conversation_key(channel="wa", account="", contact=""), talker.account, "dead-letter", item)

    def _strange_status(self) -> bytes:
        talker = self._chance.choice(self._talkers)
        status = {
            "id": fresh_id(f"{self._token} nobody", next(self._ids)),
            "status": self._chance.choice(("sent", "delivered", "read")),
            "timestamp": str(int(time.time())),
            "recipient_id": talker.address,
        }
        return dump(_envelope({talker.account: {"statuses": [status]}}))

    def _expect(self, message: _Message) -> None:
        conversation = message.conversation
        cause = event_id(conversation, message.id)
        sends = tuple(send_id(conversation=conversation, cause=cause, step=step) for step in ("reply", "fallback"))
        self._due[message.id] = _Due(time.monotonic(), sends)
        self._message_of.update(dict.fromkeys(sends, message.id))

    def _saw(self, arrival: Arrival) -> None:
        if arrival.outcome != "accepted":
            return
        talker = self._by_address.get((arrival.account, arrival.to.removeprefix("+")))
        self._writer.write(
            Effect(
                at=arrival.at / 1000,
                conversation=talker.key if talker else conversation_key(channel="wa", account=arrival.account, contact=arrival.to),
                callback=arrival.callback,
                platform_id=arrival.platform_id,
                text=str(msgspec.json.decode(arrival.body).get("text", {}).get("body", "")),
                answered=arrival.answered,
            )
        )
        ours = read_callback_data(arrival.callback)
        message = self._message_of.get(ours[0]) if ours else None
        if message is not None:
            due = self._due.pop(message, None) or self._waiting_long.pop(message)
            for send in due.sends:
                del self._message_of[send]
        self._arrived.set()

    def _told(self, update: Update) -> None:
        status = update.status
        self._writer.write(
            Status(
                at=time.time(),
                platform_id=str(status["id"]),
                status=str(status["status"]),
                callback=str(status.get("biz_opaque_callback_data", "")),
            )
        )


def _dump(messages: Iterable[_Message], talkers: Iterable[_Talker]) -> bytes:
    """Return a body with an entry for each account."""
    values: dict[str, dict[str, list[Any]]] = {}
    for talker in talkers:
        values.setdefault(talker.account, {"contacts": [], "messages": []})["contacts"].append(talker.contact)
    for message in messages:
        values[message.account]["messages"].append(message.item)
    return dump(_envelope({account: value for account, value in values.items() if value["messages"]}))


def _envelope(values: dict[str, dict[str, list[Any]]]) -> dict[str, object]:
    entries = []
    for account, value in values.items():
        metadata = {"display_phone_number": DISPLAY_NUMBER, "phone_number_id": account}
        change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
        entries.append({"id": business_account_id(account), "changes": [change]})
    return {"object": "whatsapp_business_account", "entry": entries}
