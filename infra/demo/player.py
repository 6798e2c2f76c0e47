"""Plays conversations as the platform would: signed webhooks over many connections, some of them twice, next to an in-process platform.

A user writes a burst without waiting, then waits for an answer to each message, thinks, and goes on. A message is posted again until it is
answered with 200, as the platform does it.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from infra.demo.conversations import Conversation
from infra.demo.played import PlayedConversation, PostTimes, Reply, UserMessage
from infra.simulator.books import Arrival
from infra.simulator.freshen import ACCOUNT_DEFAULT, fresh_id
from infra.simulator.platform import SimulatedPlatform
from infra.simulator.webhooks import sign, text_body
from schemas.ids import read_callback_data

ACCOUNTS = tuple(str(int(ACCOUNT_DEFAULT) + number) for number in range(4))
CONNECTIONS = 64
_TWICE_SHARE = 0.2
_ONE_BODY_SHARE = 0.3
_REFUSED_PAUSE_S = 0.5
_TIMEOUT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast it goes, in seconds.

    Over which time conversations begin, how long users think between bursts, how long they wait for an answer, and
    after which time the play ends, finished or not.
    """

    begin_within_s: float = 12.0
    think_s: tuple[float, float] = (0.2, 1.2)
    patience_s: float = 60.0
    limit_s: float = 120.0


class Watcher:
    """Is told what happens; this one does nothing with it."""

    def posted(self, played: PlayedConversation, message: UserMessage) -> None:
        """Note that a message was stored."""

    def replied(self, played: PlayedConversation, reply: Reply) -> None:
        """Note that the platform got a reply."""


class Player:
    """Plays all conversations once."""

    def __init__(
        self,
        conversations: Sequence[Conversation],
        *,
        platform: SimulatedPlatform,
        url: str,
        secret: bytes,
        seed: int,
        watcher: Watcher,
        pace: Pace | None = None,
    ) -> None:
        self._platform = platform
        self._url = url
        self._secret = secret
        self._watcher = watcher
        self._pace = pace or Pace()
        self._chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self._token = f"{time.time_ns():x}"
        first_phone = 15_550_000_000 + time.time_ns() // 1_000_000 % 9_000 * 1_000  # others than in the last run
        self.times = PostTimes()
        self.played = [
            PlayedConversation(conversation=conversation, account=ACCOUNTS[number % len(ACCOUNTS)], phone=str(first_phone + number))
            for number, conversation in enumerate(conversations)
        ]
        self._by_address = {(played.account, played.phone): played for played in self.played}
        self._arrived: dict[str, asyncio.Event] = {played.key: asyncio.Event() for played in self.played}
        self._numbers = iter(range(1_000_000_000))

    async def play(self) -> None:
        """Play until every user has all answers or lost patience, and every second posting is done."""
        self._platform.books.watchers.append(self._take_arrival)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        try:
            async with (
                asyncio.timeout(self._pace.limit_s),
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as self._session,
                asyncio.TaskGroup() as self._group,
            ):
                for number, played in enumerate(self.played):
                    begin_s = self._pace.begin_within_s * number / len(self.played)
                    self._group.create_task(self._converse(played, begin_s=begin_s))
        except TimeoutError:
            return  # what was not played shows in the verdict
        finally:
            self._platform.books.watchers.remove(self._take_arrival)

    async def _converse(self, played: PlayedConversation, *, begin_s: float) -> None:
        await asyncio.sleep(begin_s)
        for burst in played.conversation.bursts:
            await self._write(played, burst)
            if not await self._all_answered(played):
                return
            await asyncio.sleep(self._chance.uniform(*self._pace.think_s))

    async def _write(self, played: PlayedConversation, burst: Sequence[str]) -> None:
        bodies = [burst] if self._chance.random() < _ONE_BODY_SHARE else [[text] for text in burst]
        for texts in bodies:
            messages = [self._message(text) for text in texts]
            played.messages += messages
            body = self._body(played, messages)
            if self._chance.random() < _TWICE_SHARE:
                later_s = self._chance.choice((0.0, 0.0, self._chance.uniform(0.1, 2.0)))
                self._group.create_task(self._post_again(body, messages, after_s=later_s))
            await self._post(body, messages)
            for message in messages:
                message.stored = True
                self._watcher.posted(played, message)

    def _message(self, text: str) -> UserMessage:
        return UserMessage(platform_id=fresh_id(self._token, next(self._numbers)), text=text, posted_at=time.time_ns() / 1e6)

    def _body(self, played: PlayedConversation, messages: Sequence[UserMessage]) -> bytes:
        texts = [(message.platform_id, message.text) for message in messages]
        return text_body(account=played.account, phone=played.phone, texts=texts, at_s=int(time.time()))

    async def _post_again(self, body: bytes, messages: Sequence[UserMessage], *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._post(body, messages)

    async def _post(self, body: bytes, messages: Sequence[UserMessage]) -> None:
        for message in messages:
            message.posts += 1
        while not await self._stored(body):
            self.times.refused += 1
            await asyncio.sleep(_REFUSED_PAUSE_S)

    async def _stored(self, body: bytes) -> bool:
        started = time.monotonic()
        try:
            async with self._session.post(self._url, data=body, headers=sign(body, self._secret)) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return False
        if answer.status == 200:  # noqa: PLR2004
            self.times.answered_s.append(time.monotonic() - started)
        return answer.status == 200  # noqa: PLR2004

    async def _all_answered(self, played: PlayedConversation) -> bool:
        """Wait for as many replies as there are messages; False if the user's patience ends before."""
        try:
            async with asyncio.timeout(self._pace.patience_s):
                while len(played.replies) < len(played.messages):
                    self._arrived[played.key].clear()
                    await self._arrived[played.key].wait()
        except TimeoutError:
            return False
        return True

    def _take_arrival(self, arrival: Arrival) -> None:
        played = self._by_address.get((arrival.account, arrival.to.removeprefix("+")))
        if played is None or arrival.outcome != "accepted":
            return
        ours = read_callback_data(arrival.callback)
        text = str(json.loads(bytes(arrival.body)).get("text", {}).get("body", ""))
        reply = Reply(send=ours[0] if ours else "", platform_id=arrival.platform_id, at=arrival.at, text=text)
        played.replies.append(reply)
        self._arrived[played.key].set()
        self._watcher.replied(played, reply)
